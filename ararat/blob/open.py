"""From a BackupLocation to a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ararat.api.location import BackupLocationSpec

from .filesystem import FilesystemStore
from .store import BlobStore

if TYPE_CHECKING:
    from .azure import Reload


async def open_store(
    spec: BackupLocationSpec,
    credentials: Mapping[str, bytes],
    *,
    reload: Reload | None = None,
) -> BlobStore:
    """The store that ``spec`` names; nothing is asked of it yet.

    ``credentials`` is the data of its Secret, decoded. ``reload`` reads that Secret again; it is
    called when the store refuses the credentials, so that a rotated one is taken up without a
    restart. Raises InvalidSpec or AccessDenied where no login can be made of what is given.
    """
    if spec.azure is not None:
        # 20 MiB of libraries, which a node whose locations are directories never needs.
        from .azure import AzureStore

        return AzureStore(spec.azure, credentials, reload=reload)
    assert spec.filesystem is not None, "the model has checked that there is one"
    return FilesystemStore(Path(spec.filesystem.path))
