"""Fixtures of the tests on a real cluster: one cluster and one installation in each process.

Ararat is installed by a plain `helm install` with no values, as the README says; a second location
in the Blob emulator is added beside it. Every test makes namespaces of its own and removes them.
When a test fails, the pods, events, logs and objects of its namespaces and of Ararat's are attached
to its report.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.azurite import Azurite
from tests.cluster.cluster import Cluster
from tests.e2e.support import diagnostics, ground, install, seeds
from tests.e2e.support.install import Blob
from tests.e2e.support.tools import Tools
from tests.e2e.support.waiting import NeverHappened
from tests.e2e.support.workload import Workload

#: Each worker of pytest-xdist has a cluster and an installation of its own.
_CLUSTER_NAME = "-".join(filter(None, ("e2e", os.environ.get("PYTEST_XDIST_WORKER"))))
_DEFAULT_IMAGE = "python:3.11-slim-bookworm"

#: What a failure is looked into: the cluster's tools, and the namespaces that tests have now.
_tools: pytest.StashKey[Tools] = pytest.StashKey()
_present: set[str] = set()


@dataclass(frozen=True)
class Ground:
    """What the session's tests stand on."""

    tools: Tools
    cluster: Cluster | None
    """None where the cluster is somebody else's."""
    gateway: str | None
    """This machine's address as the cluster's pods reach it."""
    image: str
    values: dict[str, Any] | None


@dataclass
class Namespaces:
    """Namespaces of one test; removed after it."""

    tools: Tools
    names: list[str] = field(default_factory=list)

    def new(self, prefix: str) -> str:
        """A name nobody has; the test makes the namespace itself."""
        name = f"{prefix}-{secrets.token_hex(3)}"
        self.names.append(name)
        _present.add(name)
        return name

    def remove(self) -> None:
        """Delete them; does not wait for the end of it."""
        if self.names:
            self.tools.kubectl(
                "delete", "namespace", *self.names, "--ignore-not-found", "--wait=false"
            )
        _present.difference_update(self.names)


@pytest.fixture(scope="session")
def e2e_ground() -> Iterator[Ground]:
    """The cluster: the user's, or one that is started here and stopped in the end."""
    external = ground.external_kubeconfig()
    if external is not None:
        values = os.environ.get("ARARAT_E2E_VALUES")
        yield Ground(
            tools=Tools(external),
            cluster=None,
            gateway=os.environ.get("ARARAT_E2E_GATEWAY"),
            image=os.environ.get("ARARAT_E2E_IMAGE", _DEFAULT_IMAGE),
            values=yaml.safe_load(Path(values).read_text()) if values else None,
        )
        return
    images = {**ground.product_images(), **ground.workload_image()}
    cluster = Cluster(_CLUSTER_NAME, nodes=2)
    with cluster:
        seeds.load(cluster, images)
        yield Ground(
            tools=Tools(cluster.kubeconfig),
            cluster=cluster,
            gateway=cluster.gateway_ip,
            image=ground.WORKLOAD_IMAGE,
            values=None,
        )


@pytest.fixture(scope="session")
def installed(e2e_ground: Ground, request: pytest.FixtureRequest) -> Iterator[Ground]:
    """Ararat, installed with no values: its default location is a directory of the nodes."""
    request.config.stash[_tools] = e2e_ground.tools
    install.install(e2e_ground.tools, e2e_ground.values)
    try:
        install.wait_until_ready(e2e_ground.tools)
    except NeverHappened as error:
        report = diagnostics.dump(e2e_ground.tools, ())
        text = "\n".join(f"===== {title}\n{body}" for title, body in report)
        pytest.fail(f"{error}\n{text}", pytrace=False)
    yield e2e_ground
    if e2e_ground.cluster is None:
        where = ("-n", e2e_ground.tools.namespace)
        e2e_ground.tools.run("helm", "uninstall", install.RELEASE, *where)


@pytest.fixture(scope="session")
def azurite(e2e_ground: Ground) -> Iterator[Azurite]:
    """Blob Storage where the cluster's pods reach it."""
    if not e2e_ground.gateway:
        pytest.fail(
            "Blob tests need an emulator that pods reach: set ARARAT_E2E_GATEWAY to an address "
            "of this machine that they can connect to",
            pytrace=False,
        )
    with Azurite(e2e_ground.gateway) as server:
        yield server


@pytest.fixture(scope="session")
def blob_location(installed: Ground, azurite: Azurite) -> str:
    """The name of a location in the emulator, beside the default one."""
    add_blob_location(installed.tools, "blob", ground.blob(azurite, "e2e"))
    install.wait_for_location(installed.tools, "blob", phase="Available")
    return "blob"


@pytest.fixture
def tools(installed: Ground) -> Tools:
    """kubectl, helm and ararat, with Ararat installed."""
    return installed.tools


@pytest.fixture
def namespaces(installed: Ground) -> Iterator[Namespaces]:
    """Names for this test's namespaces, looked into when it fails and removed after it."""
    made = Namespaces(installed.tools)
    yield made
    made.remove()


@pytest.fixture
def new_workload(installed: Ground, namespaces: Namespaces) -> Callable[..., Workload]:
    """Makes a small application in a namespace of its own, installed and full."""

    def make(prefix: str, **options: Any) -> Workload:
        name = namespaces.new(prefix)
        return Workload(installed.tools, name, installed.image, **options).install()

    return make


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Attach what explains a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "teardown" or not report.failed:
        return
    tools = item.config.stash.get(_tools, None)
    if tools is not None:
        report.sections += list(diagnostics.dump(tools, sorted(_present)))


def add_blob_location(
    tools: Tools, name: str, blob: Blob, *, access_mode: str = "ReadWrite"
) -> None:
    """Make a BackupLocation and the Secret it names, as a user would write them."""
    secret = f"{name}-credentials"
    azure = blob.values()["location"]["azure"]
    tools.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": secret, "namespace": tools.namespace},
                "stringData": {"accountKey": blob.key},
            },
            {
                "apiVersion": "ararat.dev/v1alpha1",
                "kind": "BackupLocation",
                "metadata": {"name": name, "namespace": tools.namespace},
                "spec": {
                    "accessMode": access_mode,
                    "syncPeriodSeconds": 5,
                    "azure": {**azure, "credentialsSecret": secret},
                },
            },
        ]
    )


def delete_namespace(tools: Tools, name: str) -> None:
    """Delete a namespace and wait until it and its volumes are gone."""
    tools.kubectl("delete", "namespace", name, timeout=180.0)
