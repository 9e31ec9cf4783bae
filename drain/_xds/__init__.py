"""The embedded control plane: grpc's own xDS client, fed from inside the process over a Unix socket."""
