"""Run ways, show the table as it grows, and write it down. By hand, as root, on a machine that has nothing else to do."""

import argparse
import datetime
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path

import grpc

from tests._parts import kubernetes, proxies
from tests._parts.making import PartMissingError, cache
from tests.bench import _peer
from tests.bench.compare import table, trial
from tests.bench.compare.ways import WAYS
from tests.cluster._node import cluster, images

GO = "localhost/grpc-drain-go-peer:test"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rows", default=",".join(WAYS), help=f"some of {','.join(WAYS)}")
    parser.add_argument("--json", type=Path, default=Path("compare.json"))
    parser.add_argument("--page", type=Path, default=Path("compare.html"))
    asked = parser.parse_args()
    names = asked.rows.split(",")
    if unknown := [each for each in names if each not in WAYS]:
        parser.error(f"--rows: no way is called {unknown[0]}")
    try:
        programs, archives, fronts = cluster.parts(_say), images.ready(_say), proxies.ready(_say)
        go = cache("images") / "go-peer.tar"
        images.image(GO, _peer.binary(), go)
    except (PartMissingError, RuntimeError) as error:
        print(f"tests.bench.compare: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rounds = 1 if asked.quick else asked.rounds
    trials: dict[str, list[trial.Trial]] = {each: [] for each in names}
    made = cluster.Cluster(programs).start(_say)
    try:
        for image in images.LOADED:
            made.load(image, archives[image])
        made.load(GO, go)
        for number in range(rounds):
            for name in names:
                began = time.monotonic()
                _say(f"round {number + 1} of {rounds}: {WAYS[name].title}")
                image = GO if WAYS[name].go else images.LOAD
                trials[name].append(trial.run(WAYS[name], made, image, fronts, _say))
                found = trials[name][-1]
                _say(f"  {found.broke or found.lost} ({time.monotonic() - began:.0f} s)")
                _write(asked, trials, rounds)
    finally:
        made.stop()
    print(table.markdown(trials))
    return 0


def _write(asked: argparse.Namespace, trials: dict[str, list[trial.Trial]], rounds: int) -> None:
    about = {
        "date": datetime.date.today().isoformat(), "rounds": rounds, "processors": os.cpu_count(),
        "machine": platform.machine(), "Python": platform.python_version(), "grpcio": grpc.__version__,
        "Kubernetes": kubernetes.KUBERNETES,
    }  # fmt: skip
    done = {name: found for name, found in trials.items() if found}
    asked.json.write_text(json.dumps(table.raw(done, about), indent=1))
    asked.page.write_text(table.page(done, about))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
