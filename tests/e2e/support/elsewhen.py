"""A controller in another time, leading a cluster whose own clock nobody moves.

Problem: a month of backups cannot be waited for, and a cluster with nodes has one clock, the
machine's: its API server, kubelets and certificates would not survive another.
Decision: only what goes by the days is moved: the controller's clock and, in maintenance Jobs, what
the store says the time is. The controller is the product's own code as a leader of this process. It
takes the Lease from the installed ones, which follow meanwhile (and serve webhooks), and is told by
the environment that the chart gives them. Agents, gates, maintenance Jobs and kubelets are the
cluster's; of a Job only the command is changed, to one that moves the clock and goes on as before.
Limits: locations are directories of a cluster of this machine, read here where the nodes see them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ararat.api import Repository
from ararat.api.base import utcnow
from ararat.api.names import CONTROLLER_LEASE
from ararat.blob.filesystem import FilesystemStore
from ararat.kube import KubeApi, KubeClient, connect
from ararat.kube.resources import LEASES
from ararat.kube.steady import SteadyElector
from ararat.restic.version import VARIABLE
from controller.backup.plan import current_cluster_uid
from controller.config import Config
from tests.cluster.cluster import Cluster
from tests.cluster.toolchain import restic
from tests.component.controller.backup.world import World
from tests.component.controller.life.time_machine import Clock
from tests.e2e.support.tools import Tools
from tests.e2e.support.waiting import eventually

_NODES_VIEW = Path("/var/lib")
_CONTROLLERS = "app.kubernetes.io/component=controller"
_MOVED = "ARARAT_TEST_MOVED"
#: ``python -m agent`` after every time that a store says was moved.
_PROGRAM = f"""
import os, sys
from datetime import timedelta
from agent.__main__ import main
from ararat.blob import directory
really, by = directory._time, timedelta(seconds=float(os.environ["{_MOVED}"]))
directory._time = lambda found: really(found) + by
sys.exit(main())
"""


class Elsewhen(World):
    """The component tests' world, on a cluster: its workload runs, and agents are the cluster's."""

    def __init__(
        self, api: KubeApi, path: Path, *, uid: str, location: str, workload: str, store: Path
    ) -> None:
        # Not the parent's: it makes up what is there already.
        self.api, self.path, self.store_path = api, path, store
        self.cluster, self.workload, self.location_name = uid, workload, location
        self.clock = None

    async def repositories(self) -> list[Repository]:
        found = await super().repositories()
        return [one for one in found if one.spec.location == self.location_name]


@dataclass
class JobsClock:
    """The controller's clock, and that of maintenance Jobs which begin from then on."""

    clock: Clock
    _moved: dict[str, str] = field(default_factory=dict)

    def rules(self, template: dict[str, Any]) -> None:
        """Take over the Jobs that are made of a template."""
        environment = template["spec"]["containers"][0]["env"]
        self._moved = next(one for one in environment if one["name"] == _MOVED)
        self.set(self.clock.now)

    def set(self, moment: datetime) -> None:
        self.clock.now = moment
        self._moved["value"] = str((moment - utcnow()).total_seconds())


async def elsewhen(
    tools: Tools, cluster: Cluster, api: KubeClient, path: Path, *, workload: str, location: str
) -> Elsewhen:
    """``location``: one of this cluster's, below its default one."""
    deployment = tools.items("deployments", namespace=tools.namespace, selector=_CONTROLLERS)[0]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    for name in ("SPOOL", "CACHE", "SCRATCH"):
        directory = path / name.lower()
        directory.mkdir()
        told[f"ARARAT_{name}_DIR"] = str(directory)
    maps = tools.items("configmaps", namespace=tools.namespace)
    (pod,) = [one["data"]["pod.json"] for one in maps if "pod.json" in one.get("data", {})]
    template = json.loads(pod)
    container = template["spec"]["containers"][0]
    container["command"] = ["/opt/ararat/bin/python", "-c", _PROGRAM]
    container["env"].append({"name": _MOVED, "value": "0"})
    file = path / "pod.json"
    file.write_text(json.dumps(template))
    told["ARARAT_MAINTENANCE_TEMPLATE"] = str(file)
    uid = await current_cluster_uid(api)
    store = seen_here(cluster, location_path(location))
    store.mkdir(parents=True, exist_ok=True)
    world = Elsewhen(api, path, uid=uid, location=location, workload=workload, store=store)
    world.config = Config.from_env(told)
    world.namespace = world.config.namespace
    return world


def location_path(location: str) -> Path:
    """Below the directory that the chart mounts."""
    return _NODES_VIEW / "ararat/backups" / location


def seen_here(cluster: Cluster, path: Path) -> Path:
    """Where this machine has what all nodes of a cluster see under a path."""
    return cluster.shared / path.relative_to(_NODES_VIEW)


@contextmanager
def nodes_directories(cluster: Cluster) -> Iterator[None]:
    """Locations of the cluster are opened where this machine has them, by a restic of ours."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "ararat.blob.open.FilesystemStore",
            lambda path: FilesystemStore(seen_here(cluster, path)),
        )
        patched.setenv(VARIABLE, str(restic.ensure()))
        yield


@asynccontextmanager
async def the_lease(tools: Tools, api: KubeClient) -> AsyncIterator[None]:
    """Lead instead of the installed controllers, which lead again afterwards."""
    leads, over, lost = asyncio.Event(), asyncio.Event(), []
    before = utcnow().isoformat().replace("+00:00", "Z")

    async def body() -> None:
        leads.set()
        try:
            await over.wait()
        finally:
            if not over.is_set():
                lost.append("the Lease was lost")

    def stood() -> None:
        lost.append("the event loop stood still")

    identity = "test-of-a-month"
    elector = SteadyElector(
        lambda: connect(tools.kubeconfig),
        namespace=tools.namespace,
        name=CONTROLLER_LEASE,
        identity=identity,
        abort=stood,
    )
    patch = {"spec": {"holderIdentity": identity}}
    await api.patch(LEASES, CONTROLLER_LEASE, patch, namespace=tools.namespace)
    leading = asyncio.create_task(elector.run(body))

    def given_up() -> bool:
        what = ("-l", _CONTROLLERS, f"--since-time={before}", "--tail=-1")
        return "leadership_lost" in tools.kubectl("logs", "-n", tools.namespace, *what)

    try:
        await leads.wait()
        await asyncio.to_thread(
            lambda: eventually(given_up, what="the leader that was follows", timeout=120)
        )
        yield
    finally:
        over.set()
        await asyncio.wait([leading])
    leading.result()
    assert lost == []
