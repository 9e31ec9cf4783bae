"""Every error that drain raises: one root, and leaves divided by what the caller can do about it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drain._workers.report import WorkersReport


class DrainError(Exception):
    """Root of all errors raised by drain."""


class ConfigurationError(DrainError, ValueError):
    """A setting, argument or environment variable is wrong: change it. The text names it, its value and the remedy."""


class BindError(ConfigurationError, RuntimeError):
    """A listening address cannot be had. A `RuntimeError` too, because that is what grpc raises for it."""


class CapabilityError(DrainError):
    """This process cannot do what was required of it (`goaway="require"`): the text says why, and what would cure it."""


class TargetError(ConfigurationError):
    """A channel target cannot be understood. The text shows the accepted forms."""


class ResolutionError(DrainError):
    """A target is well formed but cannot be resolved now."""


class WorkerError(DrainError):
    """A worker ended before it had ever listened, in the first start of `run_workers`: the text says how, with its last words.

    Attributes:
        report: how the other workers left.
    """

    def __init__(self, text: str, report: "WorkersReport") -> None:
        super().__init__(text)
        self.report = report
