"""A real API server with our CRDs and no controller: the tests play it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest

from ararat.api import GROUP, KINDS, VERSION
from ararat.cli import main
from tests.cluster.api import ApiError
from tests.cluster.apiserver import ControlPlane
from tools import crds

MERGE = "application/merge-patch+json"
#: What to wait for anything; a busy machine needs most of it.
SECONDS = 60.0


@dataclass
class Cluster:
    """One installation: a namespace of its own in the shared API server."""

    plane: ControlPlane
    namespace: str
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "KUBECONFIG": str(self.plane.kubeconfig),
            "ARARAT_NAMESPACE": self.namespace,
            "COLUMNS": "120",
        }

    def ararat(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end, in this process: imports are paid once."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main.run(list(arguments))
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command line in a process group of its own."""
        process = subprocess.Popen(
            [*PROGRAM, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def path(self, plural: str, name: str = "", subresource: str = "") -> str:
        parts = (plural, name, subresource)
        tail = "/".join(part for part in parts if part)
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{tail}"

    def get(self, plural: str, name: str) -> Any:
        return self.plane.api.get(self.path(plural, name))

    def names(self, plural: str) -> list[str]:
        found = self.plane.api.items(self.path(plural))
        return sorted(str(item["metadata"]["name"]) for item in found)

    def create(self, plural: str, name: str, spec: Any, *, labels: Any = None) -> Any:
        kind = next(kind.KIND for kind in KINDS if plural == kind.PLURAL)
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "metadata": {"name": name, "labels": labels or {}},
            "spec": spec,
        }
        return self.plane.api.create(self.path(plural), body)

    def status(self, plural: str, name: str, **status: Any) -> None:
        """Say something about an object, as the controller would."""
        path = self.path(plural, name, "status")
        self.plane.api.request("PATCH", path, body={"status": status}, content_type=MERGE)

    def location(self, name: str = "default", **spec: Any) -> None:
        """A location that can be used."""
        body = {"filesystem": {"path": "/backups"}, "default": name == "default", **spec}
        self.create("backuplocations", name, body)
        self.status("backuplocations", name, phase="Available", locationID=f"id-{name}")

    def backup(self, name: str = "mybackup", **status: Any) -> Any:
        """A backup that has ended well."""
        made = self.create("backups", name, {"includedNamespaces": ["default"]})
        self.status("backups", name, **{"phase": "Completed", "location": "default", **status})
        return made

    def appears(self, plural: str, name: str) -> Any:
        """The object, once it is there."""

        def found() -> Any:
            try:
                return self.get(plural, name)
            except ApiError as error:
                if error.status == 404:
                    return None
                raise

        return until(found)


PROGRAM = (sys.executable, "-c", "from ararat.cli.main import main; main()")


def until(found: Callable[[], Any]) -> Any:
    """What ``found`` returns, once it is something."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError("nothing came of it")


@pytest.fixture(scope="package")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for kind in KINDS:
            running.api.create(collection, crds.definition(kind))
        for kind in KINDS:
            until(lambda kind=kind: served(running, kind.PLURAL))  # type: ignore[misc]
        yield running


def served(plane: ControlPlane, plural: str) -> bool:
    try:
        plane.api.get(f"/apis/{GROUP}/{VERSION}/{plural}")
    except ApiError:
        return False
    return True


@pytest.fixture
def cluster(plane: ControlPlane) -> Iterator[Cluster]:
    made = Cluster(plane, f"ararat-{uuid.uuid4().hex[:8]}")
    for name in (made.namespace, f"{made.namespace}-keys"):
        plane.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield made
    for process in made.running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
