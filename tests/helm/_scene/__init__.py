"""Servers and clients that a real Prometheus scrapes: for the dashboard."""
