"""grpc's own knobs: everything that must know how grpcio and its C-core behave lives in this package."""
