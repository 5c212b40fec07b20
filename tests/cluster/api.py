"""A few requests to an API server on the standard library alone.

Problem: the harness asks few things (is it ready, which nodes, which claims), often, and from
small processes; a Kubernetes client library takes half a second and 50 MB to import.
Decision: JSON over `http.client` with the kubeconfig's client certificate, one connection per
request. Tests of the product use the real client.
Limits: a watch tells only that something changed; no paging; only kubeconfigs with certificates
inline.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.errors import ClusterError

_WATCH_SECONDS = 60


class ApiError(ClusterError):
    """The API server answered with an error status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiClient:
    """Requests with the identity of one kubeconfig file (written by `kubeconfig.write`)."""

    def __init__(self, kubeconfig: Path) -> None:
        document = json.loads(kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        user = document["users"][0]["user"]
        address = urllib.parse.urlsplit(cluster["server"])
        self._host, self._port = str(address.hostname), address.port or 443
        self._context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile() as pem:
            pem.write(base64.b64decode(user["client-certificate-data"]))
            pem.write(base64.b64decode(user["client-key-data"]))
            pem.flush()
            self._context.load_cert_chain(pem.name)

    def ready(self) -> bool:
        """Whether the server says that it is ready; False also when nothing answers."""
        try:
            self.request("GET", "/readyz")
        except (OSError, http.client.HTTPException, ApiError):
            return False
        return True

    def get(self, path: str) -> Any:
        """The object or list at *path*."""
        return self.request("GET", path)

    def items(self, path: str) -> list[dict[str, Any]]:
        """The items of the list at *path*."""
        found: list[dict[str, Any]] = self.get(path).get("items") or []
        return found

    def create(self, path: str, body: dict[str, Any]) -> Any:
        """Post *body* to the collection at *path*."""
        return self.request("POST", path, body=body)

    def ensure(self, path: str, body: dict[str, Any]) -> None:
        """Post *body*; an object of that name that is already there stays as it is."""
        try:
            self.create(path, body)
        except ApiError as error:
            if error.status != http.HTTPStatus.CONFLICT:
                raise

    def delete(self, path: str) -> None:
        """Delete the object at *path*; one that is gone already is no error."""
        try:
            self.request("DELETE", path)
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise

    def changes(self, path: str) -> Iterator[None]:
        """One for each object of the collection at *path*, then one for each change, for a minute.

        Raises as `request` does.
        """
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context, timeout=_WATCH_SECONDS + 15
        )
        try:
            connection.request("GET", f"{path}?watch=true&timeoutSeconds={_WATCH_SECONDS}")
            response = connection.getresponse()
            if response.status >= http.HTTPStatus.BAD_REQUEST:
                text = response.read().decode(errors="replace")
                _refuse_errors("GET", path, status=response.status, text=text)
            while response.readline():
                yield
        finally:
            connection.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """One request; raises ApiError for an error status, OSError where nothing answers."""
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context, timeout=15
        )
        try:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": content_type, "Accept": "application/json"},
            )
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        finally:
            connection.close()
        _refuse_errors(method, path, status=response.status, text=text)
        try:
            return json.loads(text)
        except ValueError:
            return text


def _refuse_errors(method: str, path: str, *, status: int, text: str) -> None:
    if status >= http.HTTPStatus.BAD_REQUEST:
        raise ApiError(f"{method} {path} was answered {status}: {text[:300]}", status=status)
