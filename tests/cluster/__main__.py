"""`python -m tests.cluster`: have programs and images ready, with progress shown, before the tests need them."""

import sys

from tests._parts import helm
from tests._parts.making import PartMissingError
from tests.cluster._node import cluster, images


def main() -> int:
    try:
        found = [*cluster.parts(_say).values(), helm.ready(_say), *images.ready(_say).values()]
    except PartMissingError as error:
        print(f"tests.cluster: {error}", file=sys.stderr)
        return 1
    print(f"tests.cluster: {', '.join(map(str, found))}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
