"""`drain.aio.insecure_channel` and `drain.aio.secure_channel`: the twins of those in `drain.resolver`."""

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from drain._channels import plan
from drain._grpc.timeouts import async_timeouts
from drain.config import ClientPolicy


def insecure_channel(
    target: str,
    options: Sequence[tuple[str, Any]] | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
    *,
    policy: ClientPolicy | None = None,
) -> grpc.aio.Channel:
    """`grpc.aio.insecure_channel`, for our targets too. See `drain.insecure_channel`.

    Opening one may take some milliseconds, once in a process: the embedded control plane is started.
    """
    made = plan(target, options, policy)
    bounds = [*(interceptors or ()), *async_timeouts(made.timeouts)]
    return grpc.aio.insecure_channel(made.target, made.options, compression, bounds)


def secure_channel(
    target: str,
    credentials: grpc.ChannelCredentials,
    options: Sequence[tuple[str, Any]] | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
    *,
    policy: ClientPolicy | None = None,
) -> grpc.aio.Channel:
    """`grpc.aio.secure_channel`, for our targets too. See `drain.secure_channel`."""
    made = plan(target, options, policy)
    bounds = [*(interceptors or ()), *async_timeouts(made.timeouts)]
    return grpc.aio.secure_channel(made.target, credentials, made.options, compression, bounds)
