"""A month of nights in minutes, on nodes: only the clock of what goes by the days is moved.

Each night a volume's files change and the schedule's time comes; the agents of the nodes store what
there is, and in some nights one of them is killed. Retention deletes, prunes and checks run as Jobs
on the nodes, and backups arrive while they do. Half-way the master key is rotated and a backup is
deleted by controllers each of which dies at another write, until every write of both was the last
of two lives, once made and once not. In the end the installed controllers lead again and restore
every backup that is kept, each into a namespace of its own: everything is what it was, to the last
bit and attribute, and ``restic check --read-data`` finds nothing.

``ARARAT_E2E_NIGHTS`` sets how many nights; ``make month-e2e`` runs 31. It is the first of these
tests because its clock runs ahead: what others leave behind would grow old and be deleted.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ararat.api import Backup
from ararat.api.names import DIRECTORY
from ararat.kube import connect
from ararat.kube.resources import JOBS, PODS
from controller.restore.source import read_manifest
from tests.component.controller.backup.world import BACKUPS, eventually
from tests.component.controller.life.dying import deleted_by_the_dying, rotated_by_the_dying
from tests.component.controller.life.mortal import Life
from tests.component.controller.life.test_maintenance import REPOSITORIES
from tests.component.controller.life.time_machine import (
    REQUESTS,
    SCHEDULES,
    Clock,
    directories,
    exists,
    nudge,
    repository,
    schedule,
)
from tests.component.controller.repository.test_rotation_kills import controller
from tests.e2e.conftest import Ground, Namespaces
from tests.e2e.support import install
from tests.e2e.support.elsewhen import (
    Elsewhen,
    JobsClock,
    elsewhen,
    location_path,
    nodes_directories,
    the_lease,
)
from tests.e2e.support.tools import Tools
from tests.e2e.support.walks import Walk
from tests.e2e.support.workload import Workload

NIGHTS = int(os.environ.get("ARARAT_E2E_NIGHTS", "6"))
PATIENCE = 240.0
PRUNE_EVERY = timedelta(days=4 if NIGHTS > 16 else 2)
LOCATION = "month"
_AGENT = "app.kubernetes.io/component=agent"
_MAINTENANCE = "app.kubernetes.io/component=maintenance"
#: What a day does to a volume.
_DAY = """
import os, random, sys
root, night, chance = sys.argv[1], int(sys.argv[2]), random.Random(" ".join(sys.argv))
with open(f"{root}/day-{night % 5}", "wb") as file:
    file.write(chance.randbytes(150_000))
if night % 4 == 0:
    with open(f"{root}/large", "wb") as file:
        file.write(chance.randbytes(2_000_000))
os.makedirs(f"{root}/days/{night}")
os.symlink(f"../../day-{night % 5}", f"{root}/days/{night}/newest")
os.chmod(f"{root}/days/{night}", chance.choice((0o700, 0o2775, 0o1777)))
os.chown(f"{root}/days", night, 1000 + night)
os.setxattr(f"{root}/days", "user.night", str(night).encode())
os.utime(f"{root}/days", ns=(chance.randrange(10**18), chance.randrange(10**18)))
"""


@dataclass
class Month:
    world: Elsewhen
    clock: JobsClock
    tools: Tools
    app: Workload
    #: Backup → claim → what its volume held.
    stored: dict[str, Mapping[str, Walk]] = field(default_factory=dict)
    kills: int = 0
    #: Maintenance Jobs that were seen to work on volumes, and those that gave way.
    seen: set[str] = field(default_factory=set)
    gave_way: set[str] = field(default_factory=set)
    _nudged: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.app.namespace}-nightly"

    @asynccontextmanager
    async def leader(self) -> AsyncIterator[None]:
        async with self.world.leader() as leader:
            assert leader.context.maintenance_template is not None
            self.clock.rules(leader.context.maintenance_template)
            yield

    async def begin(self) -> None:
        spec = {
            "cron": "30 2 * * *",
            "timeZone": "Europe/Berlin",
            "template": {"includedNamespaces": [self.app.namespace], "location": LOCATION},
            "retention": {"keepDaily": 3, "keepWeekly": 1 + NIGHTS // 16},
        }
        await self.world.create(SCHEDULES, self.name, self.world.namespace, spec=spec)

    async def change(self, night: int) -> Mapping[str, Walk]:
        """What the day does to the volumes, and what they hold then."""
        pods = await asyncio.to_thread(self.app.pods_by_claim)

        def one(pod: str) -> None:
            what = ["python3", "-c", _DAY, "/data", str(night), pod]
            self.tools.exec(self.app.namespace, pod, what)

        await asyncio.gather(*(asyncio.to_thread(one, pod) for pod in pods.values()))
        return await asyncio.to_thread(self.app.walks)

    async def night(self, night: int) -> None:
        held = await self.change(night)
        name, clock = self.name, self.clock.clock

        async def due() -> bool:
            found = (await schedule(self.world, name)).status.next_run_time
            return found is not None and found > clock.now

        await eventually(due, what="the schedule says when it is due", within=PATIENCE)
        when = (await schedule(self.world, name)).status.next_run_time
        assert when is not None
        self.clock.set(when + timedelta(seconds=20))
        backup = f"{name}-{when:%Y%m%d%H%M%S}"
        self.stored[backup] = held
        await nudge(self.world, SCHEDULES, name, clock)
        if night % 4 == 1:
            await self.kill_an_agent(backup)
        await self.ended(backup)

    async def kill_an_agent(self, backup: str) -> None:
        """At work for a backup, or about to be."""

        world = self.world

        async def agent() -> str:
            nodes = {job.spec.node for job in await world.jobs() if job.spec.backup == backup}
            agents = world.api.list(PODS, namespace=world.namespace, labels=_AGENT)
            names = [
                str(pod["metadata"]["name"])
                async for pod in agents
                if pod["spec"].get("nodeName") in nodes
            ]
            return min(names, default="")

        name = await eventually(agent, what=f"a node job of {backup}", within=PATIENCE)
        await world.api.delete(PODS, name, namespace=world.namespace, grace_seconds=0)
        self.kills += 1

    async def by_hand(self, name: str) -> None:
        await self.world.backup(name, location=LOCATION)
        await self.ended(name)

    async def ended(self, name: str) -> None:
        async def look() -> Backup | None:
            if not await exists(self.world, BACKUPS, name):
                return None
            backup = await self.world.get(name)
            over = backup.status.phase.terminal and not backup.metadata.finalizers
            return backup if over else None

        backup = await eventually(look, what=f"{name} has ended", within=PATIENCE)
        assert backup.status.phase == "Completed", (name, backup.status.message)

    async def maintained(self, *, arrives: str) -> None:
        """Prune and check what is due; a backup arrives while one of them works."""

        async def begun() -> bool:
            await self.look_after_repositories()
            await self.watch_jobs()
            return bool(self.seen - before)

        async def quiet() -> bool:
            await self.look_after_repositories()
            await self.watch_jobs()
            states = [repo.status.maintenance for repo in await self.world.repositories()]
            return all(
                state is not None
                and state.running is None
                and state.last_prune_time is not None
                and self.clock.clock.now - state.last_prune_time < PRUNE_EVERY
                for state in states
            )

        before = set(self.seen)
        self.stored[arrives] = await asyncio.to_thread(self.app.walks)
        await eventually(begun, what="a container of maintenance runs", within=PATIENCE)
        await self.by_hand(arrives)
        await eventually(quiet, what="nothing is due to be pruned", within=PATIENCE)

    async def look_after_repositories(self) -> None:
        """Now and then: nobody announces that the clock was moved."""
        if self._it_is_time():
            for repo in await self.world.repositories():
                await nudge(self.world, REPOSITORIES, repo.name, self.clock.clock)

    def _it_is_time(self) -> bool:
        now = asyncio.get_running_loop().time()
        due = now - self._nudged > 1.5
        self._nudged = now if due else self._nudged
        return due

    async def watch_jobs(self) -> None:
        """Note which Jobs work on the workload's repository, and which were told to end."""
        namespace, mine = self.world.namespace, f"/volumes/{self.app.namespace}/"
        running = {
            pod["metadata"]["labels"]["job-name"]
            async for pod in self.world.api.list(PODS, namespace=namespace, labels=_MAINTENANCE)
            if pod["status"].get("phase") == "Running"
        }
        async for job in self.world.api.list(JOBS, namespace=namespace, labels=_MAINTENANCE):
            name = job["metadata"]["name"]
            if mine in (job["metadata"].get("annotations") or {}).get(DIRECTORY, ""):
                self.seen.update({name} & running)
                if job["metadata"].get("deletionTimestamp"):
                    self.gave_way.add(name)

    async def backups(self) -> dict[str, str]:
        """Name → phase, of this location."""
        found = self.world.api.list(BACKUPS, namespace=self.world.namespace)
        return {
            raw["metadata"]["name"]: raw["status"]["phase"]
            async for raw in found
            if raw.get("status", {}).get("location") == LOCATION
        }

    async def expired(self) -> None:
        """Deletions that retention has asked for are over."""

        async def look() -> bool:
            if self._it_is_time():
                await nudge(self.world, SCHEDULES, self.name, self.clock.clock)
            found = self.world.api.list(REQUESTS, namespace=self.world.namespace)
            asked = [raw async for raw in found if raw["spec"]["backup"] in self.stored]
            phases = {(raw.get("status") or {}).get("phase") for raw in asked}
            left = "Deleting" in (await self.backups()).values()
            return not left and phases <= {"Completed"}

        await eventually(look, what="nothing is being deleted", within=PATIENCE)

    async def prove_stored(self) -> list[str]:
        """The repositories are whole and hold what backups name and nothing else. What is kept."""
        world, kept = self.world, sorted(await self.backups())
        files = world.files()
        assert {name.split("/")[1] for name in files if name.startswith("backups/")} == set(kept)
        named: dict[str, set[str]] = {directory: set() for directory in await directories(world)}
        async with controller(world, Life()) as context:
            location = await context.location(LOCATION)
            manifests = [await read_manifest(location, name) for name in kept]
        for manifest in manifests:
            named[manifest.objects.directory].update(manifest.objects.snapshots)
            volumes = [volume for volume in manifest.volumes if volume.snapshot_id]
            assert len(volumes) == len(self.stored[manifest.backup])
            for volume in volumes:
                named[volume.directory].add(str(volume.snapshot_id))
        for directory, snapshots in named.items():
            async with repository(world, directory) as restic:
                assert (await restic.check(read_data_subset="100%")).ok, directory
                assert {s.id for s in await restic.snapshots()} == snapshots, directory
        return kept

    async def prove_restored(self, kept: list[str], namespaces: Namespaces) -> None:
        """Each into a namespace of its own, by the controllers that are installed."""

        def restore(backup: str) -> None:
            copy = self.app.in_namespace(namespaces.new("month"))
            mapping = ("--namespace-mappings", f"{self.app.namespace}:{copy.namespace}")
            name = f"{backup}-back"
            source = ("--from-backup", backup)
            self.tools.ararat("restore", "create", name, *source, *mapping, "--wait", timeout=400)
            copy.wait_until_running()
            copy.prove_equal(self.stored[backup])

        # A few at once: ten pods each would be too many for the nodes.
        for few in (kept[at : at + 5] for at in range(0, len(kept), 5)):
            await asyncio.gather(*(asyncio.to_thread(restore, backup) for backup in few))


@pytest.mark.timeout(3600)
async def test_a_month(
    installed: Ground,
    new_workload: Callable[..., Workload],
    namespaces: Namespaces,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, tools = installed.cluster, installed.tools
    if cluster is None:
        pytest.fail("this test reads the nodes' directories: it needs a cluster of this machine")
    fill = "--large 1 --large-mib 8 --small 60"
    app = await asyncio.to_thread(new_workload, "month", replicas=1, fill=fill)
    with tempfile.TemporaryDirectory(prefix="ar", dir="/tmp") as short, nodes_directories(cluster):
        async with connect(tools.kubeconfig) as api:
            world = await elsewhen(
                tools, cluster, api, Path(short), workload=app.namespace, location=LOCATION
            )
            often = {
                **world.config.maintenance,
                "ARARAT_MAINTENANCE_PRUNE_EVERY": f"{PRUNE_EVERY.days}d",
                "ARARAT_MAINTENANCE_CHECK_EVERY": "6d",
            }
            world.config = replace(world.config, maintenance=often)
            await asyncio.to_thread(add_location, tools)
            month = Month(world, JobsClock(Clock(world)), tools, app)
            async with the_lease(tools, api):
                kept = await live_through(month, monkeypatch)
            await month.prove_restored(kept, namespaces)
            await asyncio.to_thread(tools.ararat, "schedule", "delete", month.name, "--yes")


async def live_through(month: Month, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nights. Returns the backups that are kept."""
    world = month.world
    for part in range(2):
        async with month.leader():
            if part == 0:
                await month.begin()
            first, last = part * NIGHTS // 2, (part + 1) * NIGHTS // 2
            for night in range(first, last):
                await month.night(night)
                if night == last - 1 or (NIGHTS > 16 and night % 8 == 4):
                    await month.expired()
                    month.clock.set(month.clock.clock.now + timedelta(hours=2))
                    await month.maintained(arrives=f"{month.app.namespace}-hand-{night}")
        if part == 0:
            await rotated_by_the_dying(world)
            by_hand = f"{month.app.namespace}-hand-{last - 1}"
            await deleted_by_the_dying(world, monkeypatch, by_hand)
    kept = await month.prove_stored()
    print(
        f"{len(month.stored)} backups, {len(kept)} kept; {month.kills} agents killed; "
        f"{len(month.seen)} runs of maintenance met, {len(month.gave_way)} gave way"
    )
    assert len(month.stored) > NIGHTS
    assert len(kept) < len(month.stored) - 1, "retention has deleted some"
    assert month.kills >= max(1, NIGHTS // 8)
    if NIGHTS >= 20:  # what was dropped is noted, and goes with a later prune
        states = [repo.status.maintenance for repo in await world.repositories()]
        assert any(state is not None and state.reclaimed_bytes > 0 for state in states)
    return kept


def add_location(tools: Tools) -> None:
    tools.apply(
        [
            {
                "apiVersion": "ararat.dev/v1alpha1",
                "kind": "BackupLocation",
                "metadata": {"name": LOCATION, "namespace": tools.namespace},
                "spec": {
                    "accessMode": "ReadWrite",
                    "syncPeriodSeconds": 5,
                    "filesystem": {"path": str(location_path(LOCATION))},
                },
            }
        ]
    )
    install.wait_for_location(tools, LOCATION, phase="Available")
