"""Several processes on one port: the way out of Python's GIL, with an orderly end. demo.py shows it."""
