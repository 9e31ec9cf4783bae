"""The measures of README, by hand: `python -m tests.bench [NAME ...] [--quick] [--json FILE]`.

One module a row of the table; each prints its figure, the mark to reach, and whether it is reached. Servers, callers and balancer
are processes of their own, on loopback; what is compared is measured side by side in one run, in turns. Nothing else should run
on the machine meanwhile.

`follow`, `endpoints`, `percall`, `firstcall`, `requests` and `kills` are those of the client. They need root (addresses on `lo`),
the real API server of `tests/kube`, and Go: their servers, and grpc-go with kuberesolver to compare with, are built from `go/`.
"""

import drain  # noqa: F401  # before grpc, in every process of the bench
