"""Callers that know nothing of drain, and no retry policy: all that is lost is counted."""

import threading
import time
from collections import Counter

import grpc

from examples.greeter import greeter_pb2, greeter_pb2_grpc

CHANNELS, CALLERS = 4, 16
PAUSE = 0.01
DEADLINE = 10.0
OF_ITS_OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 1)]


class Load:
    """Calls from when it is made until `stop`. Thread safe."""

    def __init__(self, address: str) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self.answered: Counter[str] = Counter()  # by pod
        self.failed: list[str] = []
        self._channels = [grpc.insecure_channel(address, options=OF_ITS_OWN) for _ in range(CHANNELS)]
        self._callers = [
            threading.Thread(target=self._call, args=(greeter_pb2_grpc.GreeterStub(self._channels[number % CHANNELS]),))
            for number in range(CALLERS)
        ]
        for each in self._callers:
            each.start()

    def _call(self, greeter: greeter_pb2_grpc.GreeterStub) -> None:
        while not self._done.is_set():
            try:
                pod = greeter.SayHello(greeter_pb2.HelloRequest(name="you"), timeout=DEADLINE).pod
            except grpc.RpcError as error:
                with self._lock:
                    self.failed.append(f"{time.strftime('%X')} {error.code().name}: {error.details()}")
            else:
                with self._lock:
                    self.answered[pod] += 1
            self._done.wait(PAUSE)

    def count(self, pod: str) -> int:
        """How often it has answered by now."""
        with self._lock:
            return self.answered[pod]

    def stop(self) -> None:
        """Returns when all callers have had their answer."""
        self._done.set()
        for each in self._callers:
            each.join()
        for channel in self._channels:
            channel.close()
