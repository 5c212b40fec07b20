"""A person with the escrowed key and plain restic, and nothing of Ararat's."""

from __future__ import annotations

import asyncio
import json
import subprocess
from contextlib import aclosing
from pathlib import Path

import pytest

from ararat.api.location import BackupLocationSpec
from ararat.blob.open import open_store
from ararat.restic.models import Access, BackupRequest
from tests.cluster.azurite import SUFFIX, Azurite
from tests.component.blob.locations import account_key, location, new_container

from . import trees
from .conftest import HOST, Template


async def test_its_own_azure_backend_opens_what_we_stored(
    azurite: Azurite, template: Template, work: Path, restic: Path
) -> None:
    options = subprocess.run([restic, "options"], capture_output=True, text=True, check=True)
    if "azure." not in options.stdout:
        pytest.fail(f"{restic} has no Azure backend (Debian's has none): use upstream's")
    container = await new_container(azurite)
    spec = BackupLocationSpec(azure=location(azurite, container, prefix="clusters/a"))
    store = await open_store(spec, account_key(azurite))
    repository = await template.copy_to(store, work)
    trees.fill(repository.volume)
    async with repository.open() as session:
        made = await session.backup(BackupRequest(source=repository.volume, host=HOST))
    target = repository.directory("target")
    hosts = work / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{azurite.host} {azurite.account}.{SUFFIX}\n")
    environment = {
        "AZURE_ACCOUNT_NAME": azurite.account,
        "AZURE_ACCOUNT_KEY": azurite.key,
        "AZURE_ENDPOINT_SUFFIX": f"{SUFFIX.removeprefix('blob.')}:{azurite.port}",
        "RESTIC_CACERT": str(azurite.ca_file),
        "RESTIC_REPOSITORY": f"azure:{container}:/clusters/a/{repository.current.directory}",
        "RESTIC_PASSWORD": repository.password,
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }

    async def by_hand(*arguments: str) -> str:
        # A hosts file of its own: the backend insists on host-style names.
        line = f'mount --bind {hosts} /etc/hosts && exec {restic} "$@"'
        command = ["unshare", "--mount", "sh", "-c", line, "sh", "--json", "--no-cache"]
        # Azurite refuses the empty access tier that restic sends otherwise.
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, "-o", "azure.access-tier=Hot", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    assert [s["id"] for s in json.loads(await by_hand("snapshots"))] == [made.snapshot_id]
    await by_hand("restore", "latest", f"--target={target}")
    assert trees.describe(target) == trees.describe(repository.volume)

    # And the other way round: what restic wrote by its own backend is read through our server.
    new = repository.directory("by-hand")
    (new / "note").write_text("written by hand")
    await by_hand("backup", "--host=by-hand", str(new))
    async with repository.open(Access.READ_ONLY) as session:
        (snapshot,) = await session.snapshots(host="by-hand")
        async with aclosing(session.dump(snapshot.id, f"{new}/note")) as pieces:
            assert b"".join([piece async for piece in pieces]) == b"written by hand"
    await store.close()
