"""A Kubernetes control plane on this machine, without a node: the real API server, and what stands in for the rest."""
