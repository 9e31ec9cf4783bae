"""Every known way to keep gRPC clients on living pods, side by side, on one real Kubernetes node: `make compare`.

Same handler, same callers, same disturbances, in the same order; one way after another, each in a namespace of its own.
"""
