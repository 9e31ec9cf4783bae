"""Ending a call of grpc.server from another thread than its handler's, with a status of one's own.

grpc's context can abort a call on the handler's own thread only, and cancel it from any, without a word to the client. What we
do instead is what grpc does itself when a handler aborts (grpc/_server.py, the same from 1.76 to 1.85): send the status, under
the lock of the call's state, and then note that the call is over as if its client had cancelled it. So the handler's next read
raises, its next answer is dropped, and no second status is sent. Private: where it is not to be had, nothing has happened.
"""

import inspect
import logging
from typing import Any

import grpc
from grpc import _common, _server  # guarded by tests/integration/test_streams.py, test_who_waits_for_a_request_is_ended

from drain._grpc.home import layers

_PARTS = ("_abort", "_CANCELLED", "_Context", "_is_rpc_state_active")
_ARGUMENTS = ["state", "call", "code", "details"]
KNOWN = (
    all(hasattr(_server, each) for each in _PARTS) and list(inspect.signature(_server._abort).parameters) == _ARGUMENTS
)


def send_status(context: Any, status: grpc.Status) -> bool:
    """End the call now. False: it cannot be done from here, or the call is over already."""
    found = next((each for each in layers(context) if KNOWN and isinstance(each, _server._Context)), None)
    try:
        return found is not None and _send(found, status)
    except Exception as error:  # another grpcio: the handler ends at its next read or yield
        logging.getLogger("drain").debug("drain.status_not_sent", exc_info=error)
        return False


def _send(context: Any, status: grpc.Status) -> bool:
    state, call = context._state, context._rpc_event.call
    with state.condition:
        if not _server._is_rpc_state_active(state):
            return False
        state.trailing_metadata = status.trailing_metadata
        state.code, state.details = status.code, _common.encode(status.details)
        _server._abort(state, call, status.code, state.details)
        state.client = _server._CANCELLED
        state.condition.notify_all()
        return True
