"""The bootstrap that leads one grpc server or channel to the embedded control plane.

It goes in as a channel argument, whose name says what grpc thinks of that; but the environment variable GRPC_XDS_BOOTSTRAP
is read once per process and belongs to a real mesh, beside which drain must work (tests/integration/test_control_plane.py).
"""

import json
from pathlib import Path
from urllib.parse import quote

BOOTSTRAP_ARGUMENT = "grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config"


def bootstrap_json(socket: Path, *, node_id: str, listener_template: str | None = None) -> str:
    """The bootstrap as JSON. `listener_template` names a server's Listeners ("%s" is the address); None for channels."""
    server = {
        "server_uri": f"unix:{quote(str(socket))}",
        "channel_creds": [{"type": "insecure"}],  # the socket is in a 0700 directory of our own
        # fail_on_data_errors: without it GRPC_EXPERIMENTAL_XDS_DATA_ERROR_HANDLING=true would make C-core ignore the removal
        # of a Listener, and GOAWAY would never be sent.
        "server_features": ["xds_v3", "fail_on_data_errors"],
    }
    bootstrap: dict[str, object] = {"xds_servers": [server], "node": {"id": node_id}}
    if listener_template is not None:
        bootstrap["server_listener_resource_name_template"] = listener_template
    return json.dumps(bootstrap)
