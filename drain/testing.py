"""For your own tests: servers that leave fast, endpoints that you change, calls that must not be lost. docs/testing.md.

    from drain.testing import Endpoints, assert_no_lost_calls, serving

    def test_a_deploy():
        endpoints = Endpoints()
        with serving(add) as old, serving(add) as new, drain.insecure_channel(endpoints.target) as channel:
            endpoints.set(old.address)
            stub = GreeterStub(channel)
            with assert_no_lost_calls(lambda: stub.SayHello(HelloRequest())):
                endpoints.set(new.address)
                assert old.drain().clean

With `pytest_plugins = ["drain.testing"]` in a conftest.py there are fixtures, too: `drain_serving`, `drain_endpoints`,
`drain_clock`, `drain_events`. Synchronous and asyncio tests have the same names: `serving` and `assert_no_lost_calls` are
`async with`, too.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from drain._testing.calls import assert_no_lost_calls
from drain._testing.clock import Clock
from drain._testing.endpoints import Endpoints
from drain._testing.recorder import Recorder
from drain._testing.servers import FAST, Serving, serving

__all__ = ["FAST", "Clock", "Endpoints", "Recorder", "Serving", "assert_no_lost_calls", "serving"]


_FIXTURES = ("drain_serving", "drain_endpoints", "drain_clock", "drain_events")


def _fixtures() -> "Iterable[tuple[str, Any]]":
    """Made only where pytest is: it is no requirement of ours."""
    try:
        import pytest  # noqa: PLC0415
    except ModuleNotFoundError:
        return ()

    @pytest.fixture
    def drain_serving() -> Iterator[Callable[..., Serving]]:
        """`drain_serving(add, **arguments)`: synchronous servers; all have left when the test ends."""
        with contextlib.ExitStack() as made:
            yield lambda *words, **named: made.enter_context(serving(*words, **named))

    @pytest.fixture
    def drain_endpoints() -> Endpoints:
        """A target whose endpoints the test decides."""
        return Endpoints()

    @pytest.fixture
    def drain_clock() -> Clock:
        """Time that the test sets forward."""
        return Clock()

    @pytest.fixture
    def drain_events() -> Iterator[Recorder]:
        """All events of the test."""
        with Recorder() as recorder:
            yield recorder

    made = (drain_serving, drain_endpoints, drain_clock, drain_events)
    return [(name, fixture) for name, fixture in zip(_FIXTURES, made, strict=True)]


globals().update(_fixtures())
