"""``python -m controller check-location NAME``: tries a location out, from where it is used.

Decision: the location is opened as it is described, whatever its phase: finding out why one is
Unavailable is what this is for. Nothing of Ararat's own in it is touched.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import BinaryIO

from ararat import layout
from ararat.blob.probe import Step, probe
from ararat.blob.store import BlobStore
from ararat.errors import AraratError, NotFound
from ararat.kube.connection import connect
from ararat.restic.version import find_restic
from controller.backup.plan import current_cluster_uid
from controller.config import Config
from controller.keys import MasterKey
from controller.location.open import Locations


async def check(config: Config, name: str, out: BinaryIO) -> None:
    """Write each step as a line of JSON, as soon as it is done.

    Raises NotFound, InvalidSpec or AccessDenied where there is nothing to try.
    """

    def write(step: Step) -> None:
        out.write(json.dumps(asdict(step)).encode() + b"\n")
        out.flush()

    async with connect() as api:
        cluster = await current_cluster_uid(api)
        locations = Locations(
            api,
            namespace=config.namespace,
            master_key=MasterKey(api, namespace=config.keys_namespace),
            cluster_uid=cluster,
        )
        resource, store = await locations.described(name)
        try:
            steps = await probe(store, writes=not resource.read_only, on_step=write)
            if all(step.ok is not False for step in steps):
                write(await _identity(store, cluster))
        finally:
            await store.close()
    write(await _restic("azure" if resource.spec.azure else "filesystem"))


async def _identity(store: BlobStore, cluster: str) -> Step:
    try:
        file = layout.LocationFile.decode(await store.get(layout.LOCATION))
    except NotFound:
        return Step("identity", ok=None, detail="new: holds no location.json yet")
    except AraratError as exc:
        return Step("identity", ok=False, detail=f"{exc.reason}: {exc.message}")
    whose = "this cluster's" if file.owner == cluster else f"cluster {file.owner}'s"
    return Step("identity", ok=True, detail=f"{file.location_id}, {whose} to write")


async def _restic(kind: str) -> Step:
    try:
        binary = await find_restic()
    except AraratError as exc:
        return Step("restic", ok=False, detail=exc.message)
    return Step(
        "restic", ok=True, detail=f"{binary.version_text}, through Ararat's server to {kind}"
    )
