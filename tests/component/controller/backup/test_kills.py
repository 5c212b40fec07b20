"""The controller may be killed at any line: the backup ends as it would have.

A life of the leader ends in the middle of a call that the seed picks; further lives end as well,
until one is let live. ``ARARAT_KILL_SEEDS`` runs more of them than the few that are always run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from typing import Any

import pytest

from ararat.api.manifest import Coverage
from ararat.blob.open import open_store as really_open
from ararat.kube import KubeClient, of
from ararat.restic.models import Access, LockOwner
from ararat.restic.session import open_repository

from .kills import Killed, Killer, is_write
from .world import BACKUPS, World, eventually

SEEDS = int(os.environ.get("ARARAT_KILL_SEEDS", "6"))
LIVES = 3
#: Calls of a whole backup of two volumes, in order; taken from the first one that is let live.
_calls: list[str] = []


async def live(world: World, killer: Killer, monkeypatch: pytest.MonkeyPatch) -> bool:
    """One life of the leader. True: the backup has ended and was let go of."""

    async def open_store(*args: Any, **kwargs: Any) -> Any:
        return Killed(await really_open(*args, **kwargs), killer, what="store")

    monkeypatch.setattr("controller.location.open.open_store", open_store)
    api: Any = Killed(world.api, killer, what="api")
    async with world.leader(api) as leader:

        async def over() -> bool:
            if killer.fired.is_set():
                return True
            assert not leader.task.done()
            backup = await world.get()
            return backup.status.phase.terminal and not backup.metadata.finalizers

        await eventually(over, what="the backup has ended, or the leader")
    return not killer.fired.is_set()


async def check(world: World, taken: list[str]) -> None:
    """The backup is as if nothing had happened."""
    backup = await world.get()
    assert backup.status.phase == "Completed", backup.status.message
    assert backup.status.coverage is not None
    assert backup.status.coverage.text == "2 backed up"
    assert backup.status.failures == []
    manifest = await world.manifest()
    assert (manifest.backup_uid, manifest.objects) == (backup.uid, backup.status.objects)
    assert [v.coverage for v in manifest.volumes] == [Coverage.BACKED_UP] * 2
    # What must be once was once.
    jobs = await world.jobs()
    assert sorted(taken) == sorted(job.uid for job in jobs)
    assert {v.snapshot_id for v in manifest.volumes} == {j.status.snapshot_id for j in jobs}
    assert len(jobs) == 2
    assert {name for name in world.files() if name.endswith("manifest.json")} == {
        "backups/nightly/manifest.json"
    }
    begun = json.loads((world.store_path / "backups/nightly/begin.json").read_text())
    assert begun == {"uid": backup.uid, "cluster": world.cluster}
    assert backup.metadata.finalizers == []
    assert await world.secrets() == []
    assert list((world.path / "spool").iterdir()) == []
    assert list((world.path / "scratch").iterdir()) == []
    assert {r.status.phase for r in await world.repositories()} == {"Ready"}
    # Every repository that is named can be opened, and holds what the manifest says.
    snapshots: Counter[str] = Counter()
    for repository in manifest.repositories:
        async with open_repository(
            store=world.store,
            directory=repository.directory,
            password=await world.password(repository.repository_name),
            key_id=repository.key_id,
            access=Access.READ_ONLY,
            owner=LockOwner("test", "test", "test", "test"),
            cache_dir=None,
            scratch_dir=world.path / "scratch",
        ) as restic:
            snapshots.update(s.id for s in await restic.snapshots())
    named = {manifest.objects.snapshot_id} | {v.snapshot_id for v in manifest.volumes}
    assert named <= set(snapshots)
    assert set(snapshots.values()) == {1}


async def test_nobody_is_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.workload_of("db", "web")
    async with world.agents() as agents:
        await world.backup()
        killer = Killer()
        assert await live(world, killer, monkeypatch)
        await check(world, agents.taken)
    _calls[:] = killer.calls
    created = Counter(call for call in _calls if call.startswith("api create podvolumebackups "))
    assert list(created.values()) == [1, 1]


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_killed_at_a_random_call(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(f"kill-{seed}")
    reach = len(_calls) or 200
    writes = [n for n, call in enumerate(_calls, 1) if is_write(call)]
    await world.workload_of("db", "web")
    story = []
    async with world.agents() as agents:
        await world.backup()
        for _ in range(LIVES):
            # Most kills at calls that change something: that is where things can go wrong.
            pick_write = bool(writes) and chance.random() < 0.7
            at = chance.choice(writes) if pick_write else chance.randint(1, reach)
            killer = Killer(at=at, after=chance.random() < 0.5)
            if await live(world, killer, monkeypatch):
                break
            story.append(f"{'after' if killer.after else 'at'} call {at}: {killer.last}")
        else:
            assert await live(world, Killer(), monkeypatch)
        try:
            await check(world, agents.taken)
        except AssertionError as exc:
            exc.add_note(f"seed {seed} was killed {'; '.join(story) or 'never'}")
            raise


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "moment",
    [
        "store put location.json",
        "store put backups/nightly/begin.json",
        "store put backups/nightly/plan.json.gz",
        "store put backups/nightly/manifest.json",
        "api patch backups nightly",
        "api create podvolumebackups",
        "api create secrets password",
    ],
)
async def test_killed_at_the_lines_that_decide(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str, after: bool
) -> None:
    """The first call of this kind, whichever number it has."""
    await world.workload_of("db", "web")
    wanted = moment.split()
    async with world.agents() as agents:
        await world.backup()

        class AtMoment(Killer):
            async def around(self, name: str, work: Any) -> Any:
                if not self.fired.is_set() and _fits(name.split(), wanted):
                    self.at = len(self.calls) + 1
                return await super().around(name, work)

        killer = AtMoment(after=after)
        assert not await live(world, killer, monkeypatch), f"there was no {moment}"
        assert await live(world, Killer(), monkeypatch)
        await check(world, agents.taken)


def _fits(call: list[str], wanted: list[str]) -> bool:
    if wanted[-1] == "password":  # the Secret of the jobs, not the master key
        return call[:3] == wanted[:3] and call[3:] != ["master-key"]
    return call[: len(wanted)] == wanted


async def test_cancelled_between_two_lives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for while nobody led is seen by the next one."""
    await world.workload_of("db", "web")
    async with world.agents():
        await world.backup()

        class AtJobs(Killer):
            async def around(self, name: str, work: Any) -> Any:
                if "create podvolumebackups" in name and not self.fired.is_set():
                    self.at = len(self.calls) + 1
                return await super().around(name, work)

        assert not await live(world, AtJobs(after=True), monkeypatch)
        await world.patch(BACKUPS, "nightly", {"spec": {"cancel": True}})
        assert await live(world, Killer(), monkeypatch)
        backup = await world.get()
        assert backup.status.phase == "Cancelled"
        assert "backups/nightly/manifest.json" not in world.files()

        async def ended() -> bool:
            return all(job.status.phase.terminal for job in await world.jobs())

        await eventually(ended, what="no job goes on")


async def test_two_leaders_at_once(world: World, api: KubeClient) -> None:
    """It must not happen, and if it does, one backup comes out of it."""
    await world.workload_of("db", "web")
    async with world.agents() as agents, world.leader(), world.leader():
        await world.backup()
        await world.phase("Completed", within=150)
        await asyncio.sleep(1)  # the slower of the two ends as well
        backup = await world.settled()
        assert backup.status.phase == "Completed"
        assert sorted(agents.taken) == sorted(job.uid for job in await world.jobs())
    manifest = await world.manifest()
    assert manifest.backup_uid == backup.uid
    assert manifest.objects == backup.status.objects
    assert of(type(backup)) == BACKUPS
