"""Run ways, show the table as it grows, and write it down. By hand, as root, on a machine that has nothing else to do."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests._parts import proxies
from tests._parts.making import PartMissingError, cache
from tests.bench import _peer
from tests.bench.compare import fronts, page, table, trial, versions
from tests.bench.compare.ways import WAYS
from tests.cluster._node import cluster, images

GO = "localhost/grpc-drain-go-peer:test"
Trials = dict[str, list[trial.Trial]]


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
    if asked.quick:
        asked.rounds = 1
    trials: Trials = {each: [] for each in names}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        programs, archives, beside = cluster.parts(_say), images.ready(_say), proxies.ready(_say)
        loaded = _loaded(names, archives, beside)
        made = cluster.Cluster(programs).start(_say)
    except (PartMissingError, RuntimeError, AssertionError) as error:
        print(f"tests.bench.compare: {error}", file=sys.stderr)
        return 1
    try:
        for name, archive in loaded.items():
            made.load(name, archive)
        _run(asked, made, beside, trials)
    except KeyboardInterrupt:
        _say("ended; what was done so far:")
        return 130
    finally:
        made.stop()
        print(table.markdown({name: found for name, found in trials.items() if found}))
    return 0


def _loaded(names: list[str], archives: Mapping[str, Path], beside: Mapping[str, Path]) -> dict[str, Path]:
    """The images of these ways (name -> archive). Raises PartMissingError, RuntimeError."""
    found = {each: archives[each] for each in images.LOADED}
    if any(WAYS[each].go for each in names):
        found[GO] = cache("images") / "go-peer.tar"
        images.image(GO, _peer.binary(), found[GO])
    if any(WAYS[each].sidecar for each in names):
        found[fronts.SIDECAR_IMAGE] = fronts.sidecar_image(beside, archives[images.LOAD], _say)
    return found


def _run(asked: argparse.Namespace, made: cluster.Cluster, beside: Mapping[str, Path], trials: Trials) -> None:
    about = versions.about(made.nodes["node1"], beside, asked.rounds)
    for number in range(asked.rounds):
        for name in trials:
            began = time.monotonic()
            _say(f"round {number + 1} of {asked.rounds}: {WAYS[name].title}")
            image = GO if WAYS[name].go else images.LOAD
            trials[name].append(trial.run(WAYS[name], made, image, beside, _say))
            found = trials[name][-1]
            _say(f"  {found.broke or found.lost} ({time.monotonic() - began:.0f} s)")
            _write(asked, trials, about)


def _write(asked: argparse.Namespace, trials: Trials, about: Mapping[str, object]) -> None:
    done = {name: found for name, found in trials.items() if found}
    asked.json.write_text(json.dumps(table.raw(done, about), indent=1), encoding="utf-8")
    asked.page.write_text(page.render(done, about), encoding="utf-8")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
