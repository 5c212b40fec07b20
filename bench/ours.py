"""One volume's work as an agent does it, in a process of its own: ``python -m bench.ours < spec``.

The process stands for the agent, which runs already when a job comes: the clock starts when its
modules are loaded, and what it held in memory by then is told apart. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ararat import process
from ararat.api.location import BackupLocationSpec
from ararat.blob.open import open_store
from ararat.keys import repository_password
from ararat.layout import volumes_repository
from ararat.restic.create import create_repository
from ararat.restic.models import Access, BackupRequest, LockOwner, RestoreRequest
from ararat.restic.session import open_repository
from bench import measure

_LOCATION = "00000000-0000-4000-8000-000000000001"
_OWNER = LockOwner("bench", "bench", "2026-01-01T00:00:00Z", "bench")


async def main(spec: dict[str, Any]) -> dict[str, Any]:
    location = BackupLocationSpec.model_validate(spec["location"])
    secret = {key: value.encode() for key, value in spec["secret"].items()}
    master = bytes.fromhex(spec["master"])
    store = await open_store(location, secret)
    scratch = Path(tempfile.mkdtemp(prefix="b", dir="/tmp"))
    try:
        # The one that exists, after the first time: repositories are made once, not per volume.
        current = await create_repository(
            store,
            folder=volumes_repository("bench"),
            master=master,
            location_id=_LOCATION,
            owner=_OWNER,
            scratch_dir=scratch,
        )
        idle = measure.resident(os.getpid())
        result: dict[str, Any] = {}
        launch = await _launch_seconds()
        before = os.times()
        began = time.monotonic()
        spent = _count_seconds()
        if spec["work"] != "create":
            async with open_repository(
                store=store,
                directory=current.directory,
                password=repository_password(master, _LOCATION, current.repository_name),
                key_id=current.key_id,
                access=Access.APPEND_ONLY,
                owner=_OWNER,
                cache_dir=Path(spec["cache"]),
                scratch_dir=scratch,
            ) as restic:
                if spec["work"] == "backup":
                    made = await restic.backup(
                        BackupRequest(
                            source=Path(spec["volume"]), host="bench", parent=spec["snapshot"]
                        )
                    )
                    result["snapshot"] = made.snapshot_id
                else:
                    await restic.restore(
                        RestoreRequest(snapshot_id=spec["snapshot"], target=Path(spec["target"]))
                    )
                result["requests"] = {
                    name: stats.requests for name, stats in restic.stats.operations.items()
                }
        after = os.times()
        result["wall"] = time.monotonic() - began
        result["cpu"] = sum(after[:4]) - sum(before[:4])
        result["cpu_own"] = sum(after[:2]) - sum(before[:2])
        result["idle"] = idle
        result["peak_own"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        # What is not restic itself: server, store, launcher.
        result["overhead"] = result["wall"] - sum(spent) + launch * len(spent)
        return result
    finally:
        await store.close()
        scratch.rmdir()


async def _launch_seconds() -> float:
    """From the start of a child to that of its program, and back from its end."""
    command = process.Command(argv=("/bin/true",), env={})
    return min([(await process.run(command, grace=1)).seconds for _ in range(3)])


def _count_seconds() -> list[float]:
    """Filled with the time of every child from now on."""
    spent: list[float] = []
    run = process.run

    async def counted(*arguments: Any, **keywords: Any) -> process.Exit:
        end = await run(*arguments, **keywords)
        spent.append(end.seconds)
        return end

    process.run = counted
    return spent


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
