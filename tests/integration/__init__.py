"""Real processes, real signals, real connections. drain comes first here, so that no test imports grpc before it."""

import drain  # noqa: F401
