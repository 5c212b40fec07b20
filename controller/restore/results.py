"""What is kept with a restore in its location: the executed plan, every failure, the log.

Only where the location is this cluster's to write: restoring from another cluster's location never
writes there, and status alone tells what happened. Trouble in writing is logged and never turns a
good restore into a bad one.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

from ararat import layout
from ararat.api.backup import Failure
from ararat.errors import AraratError
from controller.location.open import OpenLocation

from .run import Look


async def keep(look: Look, location: OpenLocation, extra: dict[str, Any] | None = None) -> None:
    """Write plan, results and log; may be done again as the restore goes on."""
    if not location.writable:
        return
    memory, name = look.memory, look.restore.name
    record = {
        "restore": name,
        "restoreUID": look.restore.uid,
        "spec": look.restore.spec.to_dict(),
        **memory.record,
        "failures": [failure.to_dict() for failure in memory.failures or []],
        "warnings": memory.warnings,
        **(extra or {}),
    }
    packed = gzip.compress(json.dumps(record, ensure_ascii=False).encode(), mtime=0)
    try:
        await location.store.put(layout.restore_results(name), packed)
        await location.store.put(layout.restore_log(name), look.log.encode())
    except AraratError as exc:
        look.log.warning("results not stored", reason=exc.reason, message=exc.message)


async def keep_log(look: Look, location: OpenLocation) -> None:
    """Now and then, and after what former controllers wrote: whoever goes on finds all of it."""
    if not location.writable:
        return
    kept, blob = look.memory.kept_log, layout.restore_log(look.restore.name)
    await kept.read(location.store, blob, look.log, uid=look.restore.uid)
    await kept.keep(location.store, blob, look.log)


async def recall(look: Look, location: OpenLocation) -> None:
    """What a former controller kept, into memory; else what status has of it."""
    memory = look.memory
    if memory.failures is not None:
        return
    memory.failures = list(look.restore.status.failures)
    memory.warnings = list(look.restore.status.warnings)
    if not location.writable:
        return
    try:
        data = await location.store.get(layout.restore_results(look.restore.name))
        record = json.loads(gzip.decompress(data))
    except (AraratError, OSError, ValueError) as exc:
        look.log.warning("former results not readable", message=str(exc))
        return
    if record.get("restoreUID") != look.restore.uid:
        return
    memory.failures = [Failure.model_validate(failure) for failure in record["failures"]]
    memory.warnings = list(record["warnings"])
    memory.record = {"plan": record["plan"]} if "plan" in record else {}
