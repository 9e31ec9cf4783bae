"""What commands that ask a cluster have in common: their options, how it is reached, and how they end where it is not."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from drain._cli.exits import FORBIDDEN, UNREACHABLE, end
from drain.errors import ConfigurationError

if TYPE_CHECKING:
    from drain._kube.objects import Kind

F = TypeVar("F", bound=Callable[..., Any])

_PATIENCE = 1.0  # seconds after which it is said that something is waited for


def cluster_options(command: F) -> F:
    """`--kubeconfig` and `--context`."""
    command = click.option("--context", metavar="NAME", help="Of the kubeconfig.")(command)
    text = "The cluster.  [default: in the cluster, else $KUBECONFIG]"
    return click.option("--kubeconfig", metavar="FILE", help=text)(command)


def namespace_option(text: str) -> Callable[[F], F]:
    """`-n`, `--namespace`."""
    return click.option("-n", "--namespace", metavar="NAME", help=text)


def use(kubeconfig: str | None, context: str | None) -> None:
    """From now on that cluster is asked. Raises ConfigurationError."""
    if kubeconfig or context:
        from drain._kube.api import configure  # noqa: PLC0415 - urllib3 takes a while, and not every command line needs it

        configure(kubeconfig, context=context)


def workloads_of(written: Sequence[str]) -> "list[tuple[Kind, str]]":
    """`deploy/x` and the like. Raises UsageError."""
    from drain._kube.objects import named  # noqa: PLC0415 - the same

    try:
        return [named(each) for each in written]
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@contextlib.contextmanager
def reached(command: str, waiting: str = "asking the cluster") -> Iterator[None]:
    """What is done in here asks a cluster: its errors end the command. After a second it is shown that it is waited for."""
    from drain._kube.failure import ApiError  # noqa: PLC0415 - the same
    from drain._kube.objects import forbidden  # noqa: PLC0415 - the same

    try:
        with shown(waiting):
            yield
    except ConfigurationError as error:
        end(command, str(error), UNREACHABLE)
    except ApiError as error:
        end(command, str(error), FORBIDDEN if forbidden(error) else UNREACHABLE)


@contextlib.contextmanager
def shown(text: str) -> Iterator[None]:
    """Progress on stderr, where that is a terminal, for what takes longer than a second."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    status = console.status(text)
    timer = threading.Timer(_PATIENCE, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
