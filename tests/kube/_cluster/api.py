"""The API server over plain HTTP: what a test does to the cluster. It shares no code with what is tested."""

import json
import ssl
from pathlib import Path
from typing import Any

import urllib3

Object = dict[str, Any]


class ApiError(Exception):
    """The server said no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:500]}")
        self.status = status


class Api:
    """One identity at one server. Thread safe. Each request has a bound, and none is repeated."""

    def __init__(
        self, server: str, authority: Path, *, certificate: tuple[Path, Path] | None = None, token: str | None = None
    ) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        self.server = server
        self._headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        self._pool = urllib3.PoolManager(ssl_context=context, retries=False, maxsize=4)

    def close(self) -> None:
        self._pool.clear()

    def __call__(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json", bound: float = 10.0
    ) -> Any:
        """The decoded answer. Raises ApiError, or urllib3's error where there is no server."""
        answer = self._pool.request(
            method,
            self.server + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={**self._headers, "content-type": kind},
            timeout=bound,
        )
        if answer.status >= 400:
            raise ApiError(answer.status, answer.data.decode(errors="replace"))
        text = answer.data.decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def stream(self, path: str) -> Any:
        """The answer as urllib3 has it, unread; for watches. Nothing may be silent for longer than 5 s."""
        return self._pool.request(
            "GET", self.server + path, headers=self._headers, preload_content=False, timeout=urllib3.Timeout(5, 5)
        )

    def get(self, path: str) -> Any:
        return self("GET", path)

    def create(self, path: str, body: Object) -> Any:
        return self("POST", path, body)

    def patch(self, path: str, body: Object) -> Any:
        """A merge patch: lists are replaced as a whole."""
        return self("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str, body: Object | None = None) -> Any:
        """Already gone is gone."""
        try:
            return self("DELETE", path, body)
        except ApiError as error:
            if error.status != 404:
                raise
            return None
