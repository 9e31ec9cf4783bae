"""Scenarios against a real kube-apiserver, etcd and kube-controller-manager. `python -m tests.kube` fetches or builds them."""
