"""What drain knows of a target, for scenarios in which nobody calls anybody."""

from collections.abc import Callable, Iterable
from typing import Any

import drain
from tests.integration._servers.waiting import BOUND, until


class Followed:
    """One target."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._watching: Any = drain.resolver.watch(target)

    @property
    def known(self) -> dict[str, Any] | None:
        """The endpoints by "address:port"; None: never heard of any."""
        found = self._watching.snapshot.endpoints
        return None if found is None else {str(each): each for each in found.endpoints}

    @property
    def ready(self) -> set[str]:
        """Addresses that are ready."""
        return {each.address for each in (self.known or {}).values() if each.ready}

    @property
    def failure(self) -> str | None:
        return self._watching.snapshot.failure  # type: ignore[no-any-return]

    def until(self, addresses: Iterable[str], within: float = BOUND) -> None:
        """Until exactly these are ready."""
        wanted = set(addresses)
        try:
            until(lambda: self.ready == wanted and self.known is not None, within)
        except AssertionError as error:
            missing, more = wanted - self.ready, self.ready - wanted
            raise AssertionError(
                f"{self.target} after {within:g} s: {len(self.ready)} ready, {len(missing)} missing {sorted(missing)[:3]}, "
                f"{len(more)} too many {sorted(more)[:3]}, failure {self.failure}"
            ) from error

    def close(self) -> None:
        self._watching.close()


Follow = Callable[[str], Followed]
