"""`--standalone`: in the place of `sleep 15`, waits until this pod's endpoint has left every EndpointSlice.

A thread looks, and may hang in DNS, TCP or TLS; the main thread keeps the time, and returns whatever the other one does.
"""

import os
import queue
import random
import threading
import time
from collections.abc import Mapping
from typing import Any

from drain._core.own_endpoint import OwnEndpoint, View
from drain._kube.access import mounted
from drain._kube.own_endpoint import own_pod
from drain._prestop.judging import Judgement
from drain._prestop.options import Options
from drain._prestop.slices import CannotLookError, GoneError, SliceApi
from drain._prestop.stderr import Stderr

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between attempts, doubled each time

_News = View | str  # what is seen, or why nothing is


def wait(options: Options, stderr: Stderr, began: float, environ: Mapping[str, str] = os.environ) -> int:
    """Returns the exit code, by `began` (of time.monotonic()) plus the timeout at the latest."""
    judgement = Judgement(options, began)
    news: queue.SimpleQueue[_News] = queue.SimpleQueue()
    threading.Thread(target=_look, args=(environ, news), name="drain-prestop-look", daemon=True).start()
    said: set[str] = set()
    while (left := judgement.due - time.monotonic()) > 0:
        try:
            latest = news.get(timeout=left)
        except queue.Empty:
            continue
        now = time.monotonic()
        if isinstance(latest, View):
            judgement.seen(latest, now)
            text = f"this pod's endpoint is {latest.why}"
        else:
            judgement.unseen(latest, now)
            text = f"cannot look: {latest}"
        if text not in said:  # an outage has one reason and many attempts
            said.add(text)
            stderr.say(text)
    code, why = judgement.verdict(time.monotonic())
    (stderr.error if code else stderr.say)(f"returns: {why}")
    return code


def _look(environ: Mapping[str, str], news: "queue.SimpleQueue[_News]") -> None:
    """The thread. It goes with the process."""
    try:
        pod = own_pod(environ)
        if pod is None:
            news.put("this is no pod, or it has no ServiceAccount token (automountServiceAccountToken)")
            return
        _follow(SliceApi(pod.namespace, environ, os.fspath(mounted(environ))), OwnEndpoint(pod), news)
    except CannotLookError as error:
        news.put(str(error))
    except Exception as error:  # the root of the thread: whatever it is, the delay is kept, and it is said
        news.put(f"a fault of drain's own: {type(error).__name__}: {error}")


def _follow(api: SliceApi, endpoint: OwnEndpoint, news: "queue.SimpleQueue[_News]") -> None:
    pause, version = FIRST_PAUSE, ""
    while True:
        began = time.monotonic()
        try:
            if not version:
                items, version = api.list()
                endpoint = endpoint.replaced(items)
                news.put(endpoint.view)
            for kind, raw in api.watch(version):
                version = _version(raw)
                if kind != "BOOKMARK":
                    endpoint = endpoint.applied(kind, raw)
                    news.put(endpoint.view)
        except GoneError:
            version = ""
        except CannotLookError as error:
            version = ""
            news.put(str(error))
        finally:
            api.close()
        if time.monotonic() - began > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that many pods do not come back at once
        pause = min(2 * pause, LONGEST_PAUSE)


def _version(raw: dict[str, Any]) -> str:
    """Where to go on watching; empty: list again."""
    return str((raw.get("metadata") or {}).get("resourceVersion") or "")
