"""The settings files of the node's programs. What is unusual in them says why."""

import json
from pathlib import Path

from tests.cluster._node import places


def containerd(socket: Path, root: Path, state: Path, cni: Path, pause: str) -> str:
    """Version 2 of the format is what containerd 1.6 and 1.7 have, and 2.x converts."""
    return f"""version = 2
root = "{root}"
state = "{state}"
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without CAP_SYS_RESOURCE runc may not lower the score, and fails with "can't get final child's PID".
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{places.PLUGINS}"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def cni() -> str:
    """ptp, not bridge: every packet is routed through the host, so kube-proxy's rules see those between two pods as well."""
    address = {
        "type": "host-local",
        "dataDir": str(places.STATE / "cni-addresses"),
        "ranges": [[{"subnet": places.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return json.dumps({"cniVersion": "1.0.0", "name": places.NETWORK, "plugins": [{"type": "ptp", "ipam": address}]})


def kubelet(address: str, socket: Path, logs: Path, authority: Path) -> str:
    """JSON is YAML."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": address,
            "healthzBindAddress": address,
            "containerRuntimeEndpoint": f"unix://{socket}",
            "podLogsDir": str(logs),
            "clusterDNS": [places.CONTROL],
            "clusterDomain": places.DOMAIN,
            "resolvConf": "",  # pods know this cluster's names and no others
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority)},
            },
            "authorization": {"mode": "AlwaysAllow"},
            # Nothing of the machine's own is touched: no cgroups of kubelet's, no chains, no memory settings; swap and old cgroups do.
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "evictionHard": {
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "memory.available": "50Mi",
                "nodefs.inodesFree": "0%",
            },
            # A cluster of tests is in a hurry; 5 and 10 a second are the defaults of small ones.
            "serializeImagePulls": False,
            "kubeAPIQPS": 200,
            "kubeAPIBurst": 400,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "shutdownGracePeriod": "0s",
        }
    )


def proxy(kubeconfig: Path) -> str:
    """One for the machine: the nodes share its network namespace."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": places.PODS,
            "hostnameOverride": "node1",
            "healthzBindAddress": f"{places.CONTROL}:10256",
            "metricsBindAddress": f"{places.CONTROL}:10249",
            "conntrack": {"maxPerCore": 0},  # the machine's own setting stays
        }
    )


def corefile(kubeconfig: Path) -> str:
    """Answers are kept for 5 s, as kubeadm's clusters keep them for 30."""
    return f"""{places.DOMAIN}:53 {{
  bind {places.CONTROL}
  errors
  cache 5
  kubernetes {places.DOMAIN} {{
    kubeconfig {kubeconfig} x
  }}
}}
"""
