"""Credentials from a folder with tls.crt, tls.key and ca.crt, such as a Secret that cert-manager writes, mounted."""

from pathlib import Path

import grpc


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    """For a server that serves none but clients whose certificate ca.crt has signed."""
    authority, certificate, key = _read(folder)
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=authority, require_client_auth=True)


def channel_credentials(folder: Path) -> grpc.ChannelCredentials:
    """For a client that shows its certificate, and trusts servers whose certificate ca.crt has signed."""
    authority, certificate, key = _read(folder)
    return grpc.ssl_channel_credentials(authority, key, certificate)


def _read(folder: Path) -> tuple[bytes, bytes, bytes]:
    return (folder / "ca.crt").read_bytes(), (folder / "tls.crt").read_bytes(), (folder / "tls.key").read_bytes()
