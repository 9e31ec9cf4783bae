"""Pairs: what a client pings, and what the server holds against it."""

from collections.abc import Iterator

from drain._doctor.finding import Severity
from drain._doctor.pair import Pair, Side
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import A8, A9, KEEPALIVE, KEEPALIVE_GO
from drain._settings import text

_RAISED = 10.0  # seconds: grpc-go and grpc-java raise a client's keepalive to this
_DEFAULT_INTERVAL = 300.0  # seconds: what servers permit unless they are told


def _written(side: Side, name: str, seconds: float) -> str:
    """The setting in the words of its own file."""
    said = side.names.get(name, name)
    if said.isupper():  # a variable in a container
        return f'value: "{seconds:g}"'
    milliseconds = said.lower().endswith("ms")
    return f"{said}: {seconds * 1000:.0f}" if milliseconds else f"{said}: {text(seconds).replace(' ', '')}"


@rule(
    "too-many-pings",
    Pair,
    Severity.ERROR,
    why="A server counts pings that come sooner than it permits, and after a few of them closes the connection with "
    "GOAWAY ENHANCE_YOUR_CALM, debug text too_many_pings: the calls on it fail with UNAVAILABLE, again and again.",
    source=KEEPALIVE,
)
def too_many_pings(pair: Pair) -> Iterator[Trip]:
    """The client pings more often than the server permits."""
    client, server = pair.client.keepalive, pair.server.keepalive
    told = client.too_many_pings(server)
    if told is None:
        return
    if client.permit_without_calls and not server.permit_without_calls and "without calls" in told:
        name = "permit_without_calls"
        change = (
            f"{pair.client.names.get(name, name)}: false"
            if not pair.client.names.get(name, "").isupper()
            else 'value: "false"'
        )
        yield Trip(told, pair.client.path(name), f"{change}  # or true on the server", thing=pair.client.thing)
        return
    interval = server.min_recv_ping_interval_without_data
    least = _DEFAULT_INTERVAL if interval is None else interval
    yield Trip(
        told,
        pair.client.path("keepalive_time"),
        _written(pair.client, "keepalive_time", least),
        thing=pair.client.thing,
    )


@rule(
    "keepalive-raised",
    Pair,
    Severity.ADVICE,
    why="grpc-go and grpc-java raise a client's keepalive to 10 s without a word; the other languages do ping as "
    "often as they are told.",
    source=KEEPALIVE_GO,
)
def keepalive_raised(pair: Pair) -> Iterator[Trip]:
    """Shorter than some languages allow."""
    time = pair.client.keepalive.keepalive_time
    if time is not None and time < _RAISED:
        what = f"the client pings every {text(time)}."
        yield Trip(
            what,
            pair.client.path("keepalive_time"),
            _written(pair.client, "keepalive_time", _RAISED),
            thing=pair.client.thing,
        )


@rule(
    "keepalive-never-acts",
    Pair,
    Severity.ADVICE,
    why="A connection that ends by its age before the first ping is due is never pinged: a peer that died silently is"
    " found by max_connection_age alone, or by the deadlines of calls.",
    source=A9,
)
def keepalive_never_acts(pair: Pair) -> Iterator[Trip]:
    """Connections do not live until the first ping."""
    time, age = pair.client.keepalive.keepalive_time, pair.server.keepalive.max_connection_age
    # drain's own defaults are such a pair (360 s, 300 s): whoever has set neither has not asked for pings.
    if (
        time is not None
        and age is not None
        and time > age
        and ("keepalive_time" in pair.client.paths or "max_connection_age" in pair.server.paths)
    ):
        what = f"the client pings after {text(time)}, and the server ends connections after {text(age)}."
        yield Trip(what, pair.client.path("keepalive_time"), thing=pair.client.thing)


@rule(
    "no-keepalive",
    Pair,
    Severity.ADVICE,
    why="When a network or a node fails silently, nobody tells: calls wait for their deadlines, and those without one"
    " for ever.",
    source=A8,
)
def no_keepalive(pair: Pair) -> Iterator[Trip]:
    """Neither side would notice that the other is gone."""
    client, server = pair.client.keepalive, pair.server.keepalive
    if client.keepalive_time is None and server.keepalive_time is None and server.max_connection_age is None:
        least = server.min_recv_ping_interval_without_data
        time = max(_RAISED, _DEFAULT_INTERVAL if least is None else least)
        yield Trip(
            "neither side sends pings.", (), f"keepalive_time: {time:g}s  # in the client", thing=pair.client.thing
        )
