"""From a BackupLocation to a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ararat.api.location import AccessMode, BackupLocationSpec

from .filesystem import FilesystemStore
from .read_only import ReadOnlyStore
from .store import BlobStore

if TYPE_CHECKING:
    from .azure import Reload


async def open_store(
    spec: BackupLocationSpec,
    credentials: Mapping[str, bytes],
    *,
    reload: Reload | None = None,
) -> BlobStore:
    """The store that ``spec`` names, one to read from where it is ReadOnly; nothing is asked yet.

    ``credentials`` is the data of its Secret, decoded. ``reload`` reads that Secret again; it is
    called when the store refuses the credentials, so that a rotated one is taken up without a
    restart. Raises InvalidSpec or AccessDenied where no login can be made of what is given.
    """
    store: BlobStore
    if spec.azure is not None:
        # 20 MiB of libraries, which a node whose locations are directories never needs.
        from .azure import AzureStore

        store = AzureStore(spec.azure, credentials, reload=reload)
    else:
        assert spec.filesystem is not None, "the model has checked that there is one"
        store = FilesystemStore(Path(spec.filesystem.path))
    return ReadOnlyStore(store) if spec.access_mode is AccessMode.READ_ONLY else store
