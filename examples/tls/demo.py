"""Makes certificates, starts two servers, and calls them: once as a client that they trust, once as one that they do not.

python -m examples.tls.demo [--aio]
"""

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import grpc
import trustme

from examples.processes import LONGEST, await_connected, free_address, running
from examples.tls.certificates import channel_credentials

SERVICE = "greeter.shop.svc.cluster.local"


def write(certificate: trustme.LeafCert, authority: trustme.CA, folder: Path) -> str:
    """As a Secret is mounted. Returns the folder's name."""
    folder.mkdir()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    return str(folder)


def main() -> None:
    """Certificates, servers, two clients."""
    flavour = "aio_" if "--aio" in sys.argv[1:] else ""
    ours, strange = trustme.CA(), trustme.CA()
    addresses = {pod: free_address() for pod in ("a", "b")}
    target = "static:///" + ",".join(addresses.values())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = write(ours.issue_cert(SERVICE), ours, folder / "server")
        client = write(ours.issue_cert("client.shop"), ours, folder / "client")
        stranger = write(strange.issue_cert("client.shop"), ours, folder / "stranger")
        for pod, address in addresses.items():
            arguments = ("--certificates", server, "--address", address)
            stack.enter_context(running(f"examples.tls.{flavour}server", *arguments, pod=pod))
            named = (("grpc.ssl_target_name_override", SERVICE),)
            await_connected(grpc.secure_channel(address, channel_credentials(folder / "client"), named))
        for who, certificates in (("a client", client), ("a stranger", stranger)):
            arguments = (target, "--certificates", certificates, "--authority", SERVICE)
            with running(f"examples.tls.{flavour}client", *arguments, stdout=subprocess.PIPE) as calling:
                answers = calling.communicate(timeout=LONGEST)[0].splitlines()
            told = sorted(set(answers))
            print(f"{who}: {len(answers)} answers, exit code {calling.returncode}", *told, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
