"""`python -m tests.kube`: have the cluster's parts ready, with progress shown, before the tests need them."""

import sys

from tests.kube._cluster import parts


def main() -> int:
    try:
        found = parts.ready(lambda line: print(line, flush=True))
    except parts.PartMissingError as error:
        print(f"tests.kube: {error}", file=sys.stderr)
        return 1
    print(f"tests.kube: {found.apiserver}, {found.controllers}, {found.etcd}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
