"""`python -m tests.cluster`: have programs (those of other tests, too) and images ready, with progress shown, before the tests need them.

`python -m tests.cluster up` brings the cluster up as well, and keeps it until Ctrl-C: for kubectl, helm and you.
"""

import argparse
import os
import signal
import sys

from tests._parts import browser, helm, prometheus, proxies
from tests._parts.making import PartMissingError
from tests.cluster._node import cluster, images


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("what", nargs="?", choices=("ready", "up"), default="ready")
    up = parser.parse_args().what == "up"
    if (why := cluster.impossible()) and not (up or os.environ.get("CI")):
        print(f"tests.cluster: {why}")  # and its tests will say that they did not run
        return 0
    try:
        programs, archives = cluster.parts(_say), images.ready(_say)
        found = [*programs.values(), helm.ready(_say), *proxies.ready(_say).values(), *archives.values()]
        found += [prometheus.promtool(_say), browser.ready(_say)]
    except PartMissingError as error:
        print(f"tests.cluster: {error}", file=sys.stderr)
        return 1
    if not up:
        _say(f"tests.cluster: {', '.join(map(str, found))}")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    made = cluster.Cluster(programs).start(_say)
    try:
        for name in images.LOADED:
            made.load(name, archives[name])
            _say(f"  image {name}")
        _say(f"up, until Ctrl-C: export KUBECONFIG={made.kubeconfig} PATH=$PATH:{programs['kubectl'].parent}")
        signal.pause()
    except KeyboardInterrupt:
        _say("down ...")
    finally:
        made.stop()
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
