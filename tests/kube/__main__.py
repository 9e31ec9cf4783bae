"""`python -m tests.kube`: have the control plane's programs ready, with progress shown, before the tests need them."""

import sys

from tests._parts.making import PartMissingError
from tests.kube._cluster import cluster


def main() -> int:
    try:
        found = cluster.parts(lambda line: print(line, flush=True))
    except PartMissingError as error:
        print(f"tests.kube: {error}", file=sys.stderr)
        return 1
    print(f"tests.kube: {', '.join(map(str, found.values()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
