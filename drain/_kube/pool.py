"""A urllib3 pool as the kubernetes package makes it, whose waiting can be ended from another thread."""

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from drain._kube.access import InCluster
from drain._kube.wire import Interrupt
from drain.errors import ConfigurationError

# A connection that dies silently is noticed by the kernel in about a minute, too: 30 s idle, then 3 probes.
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]

_KEPT = 10  # idle connections; more than that are closed, and urllib3 logs a warning for each


class _Asking(threading.local):
    """For whom this thread asks: its socket must be known before there is an answer, or waiting for one could not be ended."""

    interrupt: Interrupt | None = None

    def uses(self, sock: Any) -> None:
        if self.interrupt is not None and isinstance(sock, socket.socket):
            self.interrupt.hold(sock)


_asking = _Asking()


@contextlib.contextmanager
def asking(interrupt: Interrupt) -> Iterator[None]:
    """What this thread asks of a pool can be interrupted: a wait for TLS, an answer or a body, but not that for a connection."""
    _asking.interrupt = interrupt
    try:
        yield
    finally:
        _asking.interrupt = None


class _Plain(HTTPConnection):
    def getresponse(self, *arguments: Any, **named: Any) -> Any:
        _asking.uses(self.sock)
        return super().getresponse(*arguments, **named)


class _Tls(HTTPSConnection):
    def _new_conn(self) -> socket.socket:  # TLS is spoken before anything else can be overridden
        sock = super()._new_conn()
        _asking.uses(sock)
        return sock

    def getresponse(self, *arguments: Any, **named: Any) -> Any:
        _asking.uses(self.sock)
        return super().getresponse(*arguments, **named)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _Tls


def made(configuration: Any) -> Any:
    """A `urllib3.PoolManager` for a `kubernetes.client.Configuration`, or for an `InCluster`."""
    if isinstance(configuration, InCluster):
        pool = _in_cluster(configuration)
    else:
        from kubernetes.client.rest import RESTClientObject  # noqa: PLC0415 - see access.py

        pool = RESTClientObject(configuration).pool_manager
    pool.connection_pool_kw["socket_options"] = _SOCKET_OPTIONS
    if (
        pool.pool_classes_by_scheme["https"] is HTTPSConnectionPool
    ):  # else SOCKS has its own: stopping takes longer then
        pool.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
    return pool


def close(manager: Any) -> None:
    """Close its idle connections now: `clear` alone leaves them to the garbage collector. Thread safe."""
    kept = [manager.pools.get(key) for key in manager.pools.keys()]  # noqa: SIM118 - it is no dict
    manager.clear()
    for each in kept:
        if each is not None:  # else somebody was faster
            each.close()


def _in_cluster(server: InCluster) -> Any:
    """The same for a pod, without the kubernetes package; proxies are those of the environment, as it has them, too."""
    # urllib3 keeps one by default, but each list's connection is for the watch behind it, and several services are followed.
    trust: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": server.ssl_ca_cert, "maxsize": _KEPT}
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or _bypassed(server.host, proxies.get("no") or ""):
        return urllib3.PoolManager(**trust)
    try:
        if proxy.lower().startswith("socks"):
            from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415 - needs PySocks, which few have

            return SOCKSProxyManager(proxy, **trust)
        return urllib3.ProxyManager(proxy, **trust)
    except (ImportError, ValueError, urllib3.exceptions.HTTPError) as error:  # its text may hold a password
        raise ConfigurationError(
            f"the proxy that HTTPS_PROXY or ALL_PROXY names cannot be used ({type(error).__name__}): it must be "
            "http://HOST:PORT (socks5:// needs PySocks), or name the API server in NO_PROXY"
        ) from error


def _bypassed(url: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names this server: by name, domain, address or network, with or without its port.

    `urllib.request.proxy_bypass` knows no networks, and 10.96.0.0/12 is what clusters have there.
    """
    parts = urlsplit(url)
    names = (parts.hostname or "", parts.netloc.lower())
    for entry in (each.strip().lower() for each in no_proxy.split(",")):
        if entry == "*" or (entry and _within(names[0], entry)):
            return True
        if (domain := entry.lstrip(".")) and any(name == domain or name.endswith("." + domain) for name in names):
            return True
    return False


def _within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:  # one of them is a name
        return False
