"""Mutual TLS: both sides show a certificate. demo.py makes some for the occasion."""
