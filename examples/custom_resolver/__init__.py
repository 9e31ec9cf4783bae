"""A resolver of your own: any Python code can tell gRPC channels where a service lives. demo.py shows it."""
