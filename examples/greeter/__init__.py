"""A server as it runs in a pod: generated code, health, reflection, and a drain. Its twin for asyncio is aio_server.py."""
