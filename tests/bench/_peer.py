"""The Go peer (`go/`): grpc-go with kuberesolver, servers and a slow line. Built when first used, and kept.

python -m tests.bench._peer serve 198.18.1.1:50051     # builds it if need be, and becomes it
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent / "go"
BUILD_SECONDS = 600  # on two processors with an empty Go cache: 45


def binary() -> Path:
    """Where it is, built from the sources as they are now. RuntimeError: there is no Go, or it did not compile."""
    sources = sorted(SOURCES.iterdir())
    digest = hashlib.sha256(b"".join(each.name.encode() + each.read_bytes() for each in sources)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grpc-drain"
    built = cache / f"bench-peer-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "bench-peer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes of one bench begin at once
        if not built.exists():
            _build(built)
    return built


def _build(built: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise RuntimeError("the Go peer of this bench needs Go 1.26 or newer on PATH: install golang")
    print("  building the Go peer ...", file=sys.stderr, flush=True)
    unfinished = built.with_suffix(f".{os.getpid()}")
    command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(unfinished), "."]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(
        command, cwd=SOURCES, env=environment, timeout=BUILD_SECONDS, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the Go peer did not compile:\n{done.stderr[-2000:]}")
    unfinished.rename(built)


def main() -> None:
    """Become the peer: the same process id, the same stdin."""
    path = binary()
    os.execv(path, [str(path), *sys.argv[1:]])


if __name__ == "__main__":
    main()
