"""A real Kubernetes cluster: API server, controllers, scheduler, kubelet, containerd, kube-proxy, CoreDNS, on this machine."""
