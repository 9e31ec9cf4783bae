"""What the page and the table say of each mode."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """A mode's name and what a server in it does."""

    name: str
    does: str
    code: str
    aio_code: str


WORDS = {
    "baseline": Words(
        name="server.stop(grace)",
        does=(
            "Plain grpcio, as grpc's own example of graceful shutdown does it: on SIGTERM the server calls stop() "
            "with five seconds of grace. But grpc marks the server as shut down before it tells its clients to go "
            "elsewhere, so calls that arrive in between are cancelled. And the balancer, which learns late, still sends "
            "new connections to a server that is no longer there."
        ),
        code="server = grpc.server(pool)\n...\nsignal.sigwait({signal.SIGTERM})\nserver.stop(grace=5).wait()",
        aio_code="server = grpc.aio.server()\n...\nawait sigterm.wait()\nawait server.stop(grace=5)",
    ),
    "drain": Words(
        name="drain",
        does=(
            "The same service on drain. On SIGTERM it announces: health turns NOT_SERVING while it goes on serving, and "
            "it asks all callers to reconnect, again and again, until nobody comes back; then everybody knows. Then it "
            "closes: it refuses new connections and sends a last GOAWAY. Then it finishes the calls in flight, and "
            "exits."
        ),
        code="server = drain.server(pool)\n...\nserver.run()",
        aio_code="server = drain.aio.server()\n...\nawait server.run()",
    ),
}

WORDS["paired"] = Words(
    name="drain on both sides",
    does=(
        "No balancer: each caller follows the servers' addresses itself, through a channel of drain's, on grpc's own xDS client. "
        "So there is nobody who learns late, and a server that leaves need not announce it: it closes at once, its callers go on "
        "elsewhere in the same moment, and its successor is used as soon as it serves."
    ),
    code=(
        "server = drain.server(pool, policy=drain.DrainPolicy(announce_timeout=0))\n...\nserver.run()\n\n"
        'channel = drain.insecure_channel("static:///10.0.0.1:50051,10.0.0.2:50051")'
    ),
    aio_code=(
        "server = drain.aio.server(policy=drain.DrainPolicy(announce_timeout=0))\n...\nawait server.run()\n\n"
        'channel = drain.insecure_channel("static:///10.0.0.1:50051,10.0.0.2:50051")'
    ),
)

PHASES = {
    "starting": "not ready yet",
    "serving": "serving",
    "leaving": "told to leave",
    "announcing": "announcing, still serving",
    "closing": "closing",
    "finishing": "finishing the last calls",
    "stopping": "stop(grace)",
    "killed": "killed",
    "restarting": "restarting",
    "listed": "the balancer sends it new connections",
}
