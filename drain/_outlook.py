"""What one drain sees of its pod's own endpoint: begun with the drain, ended with it."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from drain._core.own_endpoint import Standing, View


class Look(Protocol):
    """Looks at this pod's own endpoint (`drain._kube.own_endpoint`). Any thread; neither method blocks."""

    def view(self) -> View: ...
    def stop(self) -> None: ...


Looking: TypeAlias = Callable[[Callable[[], None]], Look | None]
"""Begins to look, and calls back whenever the view differs; None: there is no pod around us."""


class Outlook:
    """Used by the driver's thread, but `words`."""

    def __init__(self, looking: Looking) -> None:
        self._looking = looking
        self._look: Look | None = None
        self.view = View()

    def begin(self, changed: Callable[[], None]) -> None:
        """Look from now on."""
        self._look = self._looking(changed)

    def end(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.stop()

    def news(self) -> View | None:
        """The view, if it differs from the last one."""
        if self._look is None or (view := self._look.view()) == self.view:
            return None
        self.view = view
        return view

    @property
    def listed(self) -> bool | None:
        """Whether a service still lists this pod; None: that is not known."""
        return None if self.view.standing is Standing.UNKNOWN else self.view.standing is Standing.LISTED

    @property
    def blind(self) -> bool:
        """There is a pod around us, and nothing can be seen of it."""
        return self._look is not None and self.view.standing is Standing.UNKNOWN

    @property
    def words(self) -> str:
        """The view in a few words; empty: nobody has looked."""
        view = self.view
        return view.why or ("" if view.standing is Standing.UNKNOWN else view.standing.value)
