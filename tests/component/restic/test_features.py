"""Other releases of restic than the one that everything else is tested with.

What is used where is the table of ``ararat/restic/version.py``: the oldest release that may be used
does all of it, but for what the table keeps from it; an older one is refused in one sentence.
"""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from ararat import keys, layout
from ararat.restic import arguments
from ararat.restic.create import create_repository
from ararat.restic.errors import ResticMissing
from ararat.restic.models import Access, BackupRequest, FindRequest, RestoreRequest, Tuning
from ararat.restic.version import MINIMUM, VARIABLE, Binary, Feature, find_restic
from tests.cluster.toolchain import pins
from tests.cluster.toolchain import restic as toolchain

from . import trees
from .conftest import HOST, LOCATION_ID, OWNER, SETTINGS, Repository
from .test_commands import test_this_restic_knows_every_flag_that_we_pass as knows_every_flag


@pytest.fixture
async def oldest(monkeypatch: pytest.MonkeyPatch) -> Binary:
    monkeypatch.setenv(VARIABLE, str(toolchain.packaged(pins.RESTIC_SUITE)))
    found = await find_restic()
    assert found.version[:2] == MINIMUM[:2]
    assert not any(found.has(feature) for feature in Feature)
    return found


@pytest.mark.timeout(300)
async def test_the_oldest_that_may_be_used_does_everything(
    oldest: Binary, repository: Repository
) -> None:
    trees.fill(repository.volume)
    request = BackupRequest(source=repository.volume, host=HOST, tuning=Tuning())
    command = arguments.backup(request, root="/v", binary=oldest)
    assert [part for part in command if "compression" in part] == ["--compression=auto"]
    await knows_every_flag()

    async with repository.open() as restic:
        first = await restic.backup(request)
        assert restic.stats.operations["post index"].requests
        (repository.volume / "more").write_text("more")
        second = await restic.backup(request)
        assert first.snapshot_id
        assert second.snapshot_id
        assert second.files_unmodified
        back = repository.directory("back")
        await restic.restore(RestoreRequest(snapshot_id=second.snapshot_id, target=back))
        assert trees.describe(back) == trees.describe(repository.volume)
        assert (await restic.diff(first.snapshot_id, second.snapshot_id)).added.files == 1
        assert len(await restic.find(FindRequest(patterns=("more",), host=HOST))) == 1
        assert [n.path async for n in restic.ls(second.snapshot_id) if n.path == "/more"]
        async with aclosing(restic.dump(second.snapshot_id, "/more")) as pieces:
            assert b"".join([piece async for piece in pieces]) == b"more"
        assert (await restic.snapshot_stats(second.snapshot_id)).files
        assert (await restic.repository_stats()).total_size

    made = await create_repository(
        repository.store,
        folder=layout.volumes_repository("elsewhere"),
        master=(master := keys.new_master_key()),
        location_id=LOCATION_ID,
        owner=OWNER,
        scratch_dir=repository.directory("scratch"),
        settings=SETTINGS,
    )
    other = Repository(repository.store, repository.work, master, made)
    async with repository.open(Access.READ_ONLY) as source, other.open() as target:
        copied = await target.copy_from(source, [first.snapshot_id])
        assert [one.original for one in copied] == [first.snapshot_id]

    async with repository.open(Access.MAINTENANCE) as restic:
        added = await restic.key_add("a password that a person chose")
        await restic.key_remove(added)
        await restic.forget([first.snapshot_id])
        await restic.prune()
        await restic.repair_index()
        assert (await restic.check(read_data_subset="100%")).ok
        assert [s.id for s in await restic.snapshots()] == [second.snapshot_id]


async def test_an_older_one_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    path = toolchain.packaged(pins.RESTIC_SUITE_REFUSED)
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(ResticMissing) as caught:
        await find_restic()
    said = caught.value.message
    assert said.startswith(f"{Path(path).resolve()} is restic 0.14.0, which is too old: install ")
    assert "\n" not in said
