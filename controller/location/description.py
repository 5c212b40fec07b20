"""``location.json``, changed: on condition that nobody else has, and its copy first."""

from __future__ import annotations

from ararat import layout
from ararat.blob.store import BlobStore
from ararat.errors import Conflict
from controller.location.open import OpenLocation


async def location_file(store: BlobStore) -> layout.LocationFile:
    return layout.LocationFile.decode(await store.get(layout.LOCATION))


async def store_location_file(
    location: OpenLocation, file: layout.LocationFile, *, etag: str
) -> None:
    """The copy first: it is read only where location.json is lost. Raises Conflict."""
    copy = layout.LocationKeysFile(former_manifest_keys=file.former_manifest_keys)
    await location.store.put(layout.LOCATION_KEYS, copy.encode())
    try:
        await location.store.put(layout.LOCATION, file.encode(), if_match=etag)
    except Conflict as exc:
        raise Conflict(f"location {location.name} is being changed by somebody else") from exc


async def drop_former_manifest_keys(location: OpenLocation) -> None:
    """What only a former key has signed is not believed from here on. Raises Conflict."""
    info = await location.store.head(layout.LOCATION)
    file = await location_file(location.store)
    if file.former_manifest_keys:
        changed = file.model_copy(update={"former_manifest_keys": []})
        await store_location_file(location, changed, etag=info.etag)
