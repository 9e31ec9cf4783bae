"""Several processes on one port: what `drain.run_workers` is made of. Nothing in here imports grpc."""
