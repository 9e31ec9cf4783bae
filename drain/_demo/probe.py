"""What a balancer can observe of a backend: gRPC health, asked for on a channel of the balancer's own."""

import grpc
import grpc.aio

CHECK = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # HealthCheckResponse(status=SERVING), so that no generated code is needed
TIMEOUT = 1.0
TIMEOUTS_TOLERATED = 3  # kubelet's failureThreshold: a busy backend is not a dead one
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
]


class HealthProbe:
    """Observes one backend. True: SERVING; False: NOT_SERVING or dead; None: no answer in time, so nothing new."""

    def __init__(self, backend: str) -> None:
        self._channel = grpc.aio.insecure_channel(backend, options=OPTIONS)
        self._check = self._channel.unary_unary(CHECK)
        self._timeouts = 0

    async def observe(self) -> bool | None:
        """Ask once."""
        try:
            answer = await self._check(b"", timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            return self._unanswered(error.code())
        self._timeouts = 0
        return bool(answer == SERVING)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _unanswered(self, code: grpc.StatusCode) -> bool | None:
        if code is grpc.StatusCode.UNIMPLEMENTED:  # alive, and without a health service
            return True
        if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            return False
        self._timeouts += 1
        return None if self._timeouts < TIMEOUTS_TOLERATED else False
