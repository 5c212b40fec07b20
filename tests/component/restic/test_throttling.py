"""A store that asks for fewer requests gets fewer, from all jobs of the process together."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from ararat.api.location import BackupLocationSpec
from ararat.blob.open import open_store
from ararat.blob.pace import MOST_REQUESTS, shared_pace
from ararat.restic.models import BackupRequest
from ararat.restic.rest_paths import parse_path
from tests.cluster.azurite import Azurite
from tests.component.blob.locations import account_key, location, new_container
from tests.component.blob.proxy import Fault, FaultProxy

from .conftest import HOST, Template

_MIB = 1024 * 1024


async def test_throttling_slows_the_process_down_and_loses_nothing(
    azurite: Azurite, template: Template, work: Path
) -> None:
    async with FaultProxy(azurite).running() as proxy:
        container = await new_container(azurite)
        azure = location(azurite, container, endpoint=proxy.endpoint, ca_bundle=proxy.ca_pem)
        store = await open_store(BackupLocationSpec(azure=azure), account_key(azurite))
        repository = await template.copy_to(store, work)
        for number in range(4):
            data = secrets.token_bytes(17 * _MIB)
            (repository.volume / f"file{number}").write_bytes(data)

        refused: list[str] = []
        allowed: list[int] = []

        def busy(method: str, path: str) -> Fault | None:
            if method != "PUT" or "/data/" not in path:
                return None
            allowed.append(shared_pace().capacity)
            if len(refused) == 3:
                return None
            refused.append(path)
            status, code = (503, "ServerBusy") if len(refused) % 2 else (429, "")
            return Fault(status=status, code=code, headers={"Retry-After": "1"})

        proxy.faults = busy
        async with repository.open() as restic:
            made = await restic.backup(BackupRequest(source=repository.volume, host=HOST))
            operations = restic.stats.operations
        # Each of them was repeated by us: restic has seen no error, and the snapshot is whole.
        assert len(refused) == 3
        assert operations["post data"].errors == 0
        assert made.snapshot_id
        assert not made.incomplete
        assert allowed[0] == MOST_REQUESTS
        assert min(allowed) <= 4

        # What comes now, of whatever job, waits for its turn.
        proxy.faults = lambda _method, _path: Fault(delay=0.1)
        proxy.peak = 0
        pack = parse_path("/r/data/" + (await repository.files("data/"))[0].rpartition("/")[2])
        assert pack is not None
        async with repository.open() as restic:
            blobs = restic._session.blobs
            await asyncio.gather(*(blobs.size(pack) for _ in range(MOST_REQUESTS)))
        assert 0 < proxy.peak <= shared_pace().capacity < MOST_REQUESTS
        await store.close()
