"""Reads of objects, for tests that look until something is so.

Problem: kubectl starts in 0.1 s of processor time, and tests look thousands of times.
Decision: one `kubectl proxy` for a kubeconfig, on loopback, so that every way to authenticate works
that kubectl knows; what is asked of it goes by plain HTTP. Kinds are found by any name kubectl
takes, from discovery, which is read again when a name is not in it.
Limits: reads of whole objects and lists, no watch, no pages. The proxy ends with this process.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


class ReadFailed(Exception):
    """The answer was no object; the message says what it was."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class _Kind:
    base: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str = "") -> str:
        where = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{self.base}{where}/{self.plural}" + (f"/{name}" if name else "")


class Reader:
    """GET requests as one kubeconfig's user."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """*environment* has kubectl on its PATH, and KUBECONFIG."""
        self._environment = environment
        self._discovering = threading.Lock()
        self._starting = threading.Lock()
        self._proxy: subprocess.Popen[str] | None = None
        self._port = 0
        self._kinds: dict[str, _Kind] = {}
        self._serving()

    def get(self, kind: str, name: str, *, namespace: str | None) -> Object | None:
        """One object, or None where there is none. Raises ReadFailed."""
        try:
            return self._request(self._kind(kind).path(namespace, name))
        except ReadFailed as failed:
            if failed.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def items(self, kind: str, *, namespace: str | None, selector: str | None) -> list[Object]:
        """Objects of a kind, or of several with commas between them. Raises ReadFailed."""
        query = f"?{urllib.parse.urlencode({'labelSelector': selector})}" if selector else ""
        found: list[Object] = []
        for one in kind.split(","):
            listing = self._request(self._kind(one).path(namespace) + query)
            about = {
                "apiVersion": listing["apiVersion"],
                "kind": str(listing["kind"]).removesuffix("List"),
            }
            found += [{**about, **item} for item in listing["items"]]
        return found

    def _kind(self, name: str) -> _Kind:
        with self._discovering:
            if name not in self._kinds:
                self._kinds = self._discover()
            if name not in self._kinds:
                raise ReadFailed(f"the server has no resource type {name!r}")
            return self._kinds[name]

    def _discover(self) -> dict[str, _Kind]:
        versions = [("", "/api/v1")]
        for group in self._request("/apis")["groups"]:
            # The preferred version first; some kinds are only in another one.
            served = [group["preferredVersion"], *group["versions"]]
            paths = dict.fromkeys(f"/apis/{one['groupVersion']}" for one in served)
            versions += [(group["name"], path) for path in paths]
        found: dict[str, _Kind] = {}
        for group, base in versions:
            for resource in self._request(base)["resources"]:
                plural = resource["name"]
                if "/" in plural:
                    continue
                kind = _Kind(base, plural, resource["namespaced"])
                names = {plural, resource["singularName"] or resource["kind"].lower()}
                qualified = {f"{name}.{group}" for name in names} if group else set()
                for name in {*names, *resource.get("shortNames", ()), *qualified}:
                    found.setdefault(name, kind)
        return found

    def _request(self, path: str) -> Object:
        connection = http.client.HTTPConnection("127.0.0.1", self._serving(), timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise ReadFailed(f"GET {path}: {error}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise ReadFailed(f"GET {path}: {response.status} {text[:300]}", status=response.status)
        answer: Object = json.loads(text)
        return answer

    def _serving(self) -> int:
        """The proxy's port; started if it does not run."""
        with self._starting:
            return self._start()

    def _start(self) -> int:
        if self._proxy is None or self._proxy.poll() is not None:
            # Not in the terminal's group: after a Ctrl-C, what cleans up still reads. It ends with
            # the thread that starts it, so `Reader` is made in the main one, and starts it there.
            self._proxy = subprocess.Popen(
                ["/usr/bin/env", "setpriv", "--pdeathsig=KILL", "kubectl", "proxy", "--port=0"],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            assert self._proxy.stdout is not None
            said = self._proxy.stdout.readline()
            port = said.strip().rpartition(":")[2]
            if not port.isdigit():
                raise ReadFailed(f"kubectl proxy does not start: {said!r}")
            self._port = int(port)
        return self._port
