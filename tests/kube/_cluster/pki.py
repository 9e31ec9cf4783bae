"""Certificates of a control plane, and the files that clients read."""

import json
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


class Pki:
    """One authority for servers and clients, in files of `folder`. `addresses`: where else than on 127.0.0.1 the API server is."""

    def __init__(self, folder: Path, *addresses: str) -> None:
        self._authority = trustme.CA(organization_name="kube-ca")
        self._folder = folder
        folder.mkdir()
        self.authority = folder / "ca.crt"
        self._authority.cert_pem.write_to_path(str(self.authority))
        self.server_certificate, self.server_key = self._pair(
            "server",
            self._authority.issue_cert(
                "127.0.0.1", "localhost", "kubernetes.default.svc", *addresses, common_name="apiserver"
            ),
        )
        # Members of this group may do everything, whatever RBAC says.
        self.admin = self.user("admin", "system:masters")
        self.admin_certificate, self.admin_key = (Path(self.admin[f"client-{each}"]) for each in ("certificate", "key"))
        self.accounts_key, self.accounts_public = folder / "accounts.key", folder / "accounts.pub"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.accounts_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.accounts_public.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def _pair(self, name: str, issued: trustme.LeafCert) -> tuple[Path, Path]:
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key

    def user(self, name: str, group: str | None = None) -> dict[str, Any]:
        """A kubeconfig's user, whom the API server knows by this name."""
        file = name.rpartition(":")[2]
        # Without a name of its own the certificate would have an empty critical extension, which Go refuses.
        issued = self._authority.issue_cert(f"{file}.test", common_name=name, organization_name=group)
        certificate, key = self._pair(file, issued)
        return {"client-certificate": str(certificate), "client-key": str(key)}

    def write_kubeconfig(self, path: Path, server: str, user: dict[str, Any], namespace: str | None = None) -> Path:
        """JSON is YAML."""
        context = {"cluster": "c", "user": "u", **({"namespace": namespace} if namespace else {})}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {"name": "c", "cluster": {"server": server, "certificate-authority": str(self.authority)}}
                    ],
                    "users": [{"name": "u", "user": user}],
                    "contexts": [{"name": "x", "context": context}],
                    "current-context": "x",
                }
            )
        )
        return path
