"""Wall time of `import drain` beside `import grpc`, in fresh interpreters in turns; and what must not be imported."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator

from tests.bench._rows import Row, Spread

TIMES, TIMES_QUICK = 15, 5
MOST = 0.060
STATEMENTS = {
    "grpc": "import grpc",
    "grpc.aio": "import grpc, grpc.aio",
    "drain": "import drain",
    "drain and grpc": "import drain, grpc",
    "drain.server": "import drain; drain.server",
    "drain.aio.server": "import drain; drain.aio.server",
}
PROGRAM = """
import time
began = time.perf_counter()
{}
took = time.perf_counter() - began
import json, sys
print(json.dumps([took, sorted(sys.modules)]))
"""
UNWANTED = ("kubernetes", "rich", "click")


async def measure(quick: bool) -> AsyncIterator[Row]:
    """What each statement costs over plain grpc's."""
    took: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    modules: set[str] = set()
    for number in range((TIMES_QUICK if quick else TIMES) + 1):
        for name, statement in STATEMENTS.items():
            seconds, loaded = fresh(statement)
            if number:  # the first one may have to compile
                took[name].append(seconds)
            modules.update(loaded if name.startswith("drain") else ())
    grpc, aio = Spread.of(took["grpc"]), Spread.of(took["grpc.aio"])
    yield Row("import grpc", grpc.ms(), details={"seconds": took["grpc"]})
    for name in list(STATEMENTS)[2:]:
        spread, base = Spread.of(took[name]), aio if "aio" in name else grpc
        over = spread.median - base.median
        what = f"{STATEMENTS[name]}, over import {'grpc.aio' if 'aio' in name else 'grpc'}"
        figure = f"{over * 1000:+.0f} ms ({spread.ms()})"
        yield Row(what, figure, f"<= +{MOST * 1000:.0f} ms", over <= MOST, {"seconds": took[name]})
    found = [name for name in UNWANTED if name in modules]
    yield Row(f"of {', '.join(UNWANTED)} imported by that", ", ".join(found) or "none", "none", not found)


def fresh(statement: str) -> tuple[float, list[str]]:
    """Seconds for that statement in an interpreter of its own, and the modules it then holds."""
    answer = subprocess.run([sys.executable, "-c", PROGRAM.format(statement)], stdout=subprocess.PIPE, check=True)
    seconds, loaded = json.loads(answer.stdout)
    return seconds, loaded
