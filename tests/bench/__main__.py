"""Run benches by name, print each figure as it comes, then the table. Exit code 1 if a mark was missed."""

import argparse
import asyncio
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import grpc

from drain._demo.children import ChildFailedError
from tests.bench import (
    cpu,
    doctor,
    endpoints,
    exits,
    firstcall,
    follow,
    imports,
    kills,
    leaving,
    memory,
    metrics,
    observation,
    percall,
    prestop,
    proxies,
    requests,
    restarts,
    rotations,
    scale,
    standalone,
    workers,
)
from tests.bench._rows import Row, markdown

Bench = Callable[[bool], AsyncIterator[Row]]
BENCHES: dict[str, Bench] = {
    "restarts": restarts.measure,
    "rotations": rotations.measure,
    "observation": observation.measure,
    "leaving": leaving.measure,
    "cpu": cpu.measure,
    "import": imports.measure,
    "exit": exits.measure,
    "memory": memory.measure,
    "follow": follow.measure,
    "endpoints": endpoints.measure,
    "percall": percall.measure,
    "firstcall": firstcall.measure,
    "requests": requests.measure,
    "kills": kills.measure,
    "prestop": prestop.measure,
    "standalone": standalone.measure,
    "scale": scale.measure,
    "workers": workers.measure,
    "proxies": proxies.measure,
    "doctor": doctor.measure,
    "metrics": metrics.measure,
}


async def run(names: list[str], quick: bool) -> list[Row]:
    """One bench after another; one that breaks is a miss, and the others go on."""
    rows: list[Row] = []
    for name in names:
        began = time.monotonic()
        print(f"\n{name} ...", flush=True)
        try:
            async for row in BENCHES[name](quick):
                show(row)
                rows.append(row)
        except (ChildFailedError, OSError, RuntimeError) as error:
            rows.append(Row(name, "broke, see above", "", False, {"error": str(error)}))
            print(f"  {name} broke: {error}", flush=True)
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    return rows


def show(row: Row) -> None:
    """One figure, as it comes."""
    mark = f"   [{row.verdict}: {row.mark}]" if row.mark else ""
    print(f"  {row.what}: {row.figure}{mark}", flush=True)


def about(quick: bool) -> dict[str, object]:
    """Where and how."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "processors": os.cpu_count(),
        "quick": quick,
        "command": " ".join(["python -m tests.bench", *sys.argv[1:]]),
    }


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run? The figures mean little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in BENCHES]:
        parser.error(f"no bench is called {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    facts = about(asked.quick)
    try:
        rows = asyncio.run(run(asked.names or list(BENCHES), asked.quick))
    except KeyboardInterrupt:
        sys.exit(130)
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items() if name != "command") + "\n")
    print(markdown(rows))
    if asked.json:
        found = [{**asdict(row), "verdict": row.verdict} for row in rows]
        asked.json.write_text(json.dumps({"about": facts, "rows": found}, indent=2, default=str) + "\n")
    sys.exit(any(row.passed is False for row in rows))


if __name__ == "__main__":
    main()
