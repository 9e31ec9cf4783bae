"""Clients that follow a service's endpoints, and tell each second who answered."""
