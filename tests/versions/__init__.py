"""Facts about single grpcio versions, each in a virtual environment of its own."""
