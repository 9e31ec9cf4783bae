"""Where the cluster lives: addresses, folders, names. Fixed, so that a run finds what a killed one left.

Addresses are of the benchmarking range (RFC 2544), and never leave this machine. EndpointSlices refuse loopback addresses.
"""

from pathlib import Path

NODES = {"node1": "198.18.254.1", "node2": "198.18.254.2"}
CONTROL = NODES["node1"]  # the API server and DNS live there
PODS = "198.18.0.0/17"
SERVICES = "198.18.255.0/24"
API_SERVICE = "198.18.255.1"  # `kubernetes.default`: the first address of SERVICES, by Kubernetes' own rule
API_PORT = 6443
DOMAIN = "cluster.local"

STATE = Path("/var/lib/grpc-drain-cluster")
RUN = Path("/run/grpc-drain-cluster")  # sockets: their paths must be short
NETWORK = "grpc-drain"  # of CNI
PLUGINS = Path("/usr/lib/cni")  # where Debian has them
