"""Names of everything in a location, and the two small files that describe it.

Decision: one module knows the layout (docs: design §4); everybody else asks it. Names are relative
to the location's prefix. Both files are frozen models in camelCase JSON, read leniently (unknown
fields are ignored) and refused when they are of a newer format.
"""

from __future__ import annotations

import json
import secrets
from datetime import datetime
from typing import ClassVar, Self

from pydantic import Field, ValidationError

from ararat.api.base import Model
from ararat.errors import Damaged, InvalidSpec
from ararat.naming import is_dns_label, is_object_name

FORMAT_VERSION = 1
LOCATION = "location.json"
#: A second copy of what in location.json cannot be found out again from anything else.
LOCATION_KEYS = "location-keys.json"
BACKUPS = "backups"
RESTORES = "restores"
REPOSITORIES = "repositories"
#: Files that are given up when the file system is full: this and a number.
RESERVE = "maintenance/reserve-"
_RANDOM_BYTES = 8


def backup_begin(backup: str) -> str:
    return f"{_backup(backup)}/begin.json"


def backup_plan(backup: str) -> str:
    """What the backup set out to do; written before anything is done."""
    return f"{_backup(backup)}/plan.json.gz"


def backup_manifest(backup: str) -> str:
    return f"{_backup(backup)}/manifest.json"


def backup_deleting(backup: str) -> str:
    return f"{_backup(backup)}/deleting.json"


def backup_pinned(backup: str) -> str:
    """Its existence keeps a backup from being deleted for its age."""
    return f"{_backup(backup)}/pinned.json"


def backup_log(backup: str) -> str:
    return f"{_backup(backup)}/log.jsonl.gz"


def backup_results(backup: str) -> str:
    return f"{_backup(backup)}/results.json.gz"


def backup_verification(backup: str) -> str:
    """What the last verification found; it goes with the backup."""
    return f"{_backup(backup)}/verification.json"


def backup_prefix(backup: str) -> str:
    """What the names of all of one backup's files start with."""
    return f"{_backup(backup)}/"


def restore_log(restore: str) -> str:
    return f"{RESTORES}/{_object(restore)}/log.jsonl.gz"


def restore_results(restore: str) -> str:
    return f"{RESTORES}/{_object(restore)}/results.json.gz"


def volumes_repository(namespace: str) -> str:
    """The folder that holds the repository of a namespace's volumes, and its ``current.json``."""
    if not is_dns_label(namespace):
        raise InvalidSpec(f"{namespace!r} is not the name of a namespace")
    return f"{REPOSITORIES}/volumes/{namespace}"


def objects_repository() -> str:
    """The folder that holds the repository of API objects, and its ``current.json``."""
    return f"{REPOSITORIES}/objects"


def current(folder: str) -> str:
    return f"{folder}/current.json"


def following(folder: str) -> str:
    """Which repository takes the place of the one that ``current.json`` names."""
    return f"{folder}/next.json"


def fresh_directory(folder: str) -> str:
    """A directory that no repository has ever stood in."""
    return f"{folder}/{secrets.token_hex(_RANDOM_BYTES)}"


def repository_name(directory: str) -> str:
    """What the password is derived from: ``volumes/<namespace>/<random>`` or ``objects/<random>``.

    Raises InvalidSpec where ``directory`` is not a repository's.
    """
    head, _, name = directory.partition("/")
    parts = name.split("/")
    shape = {"volumes": 3, "objects": 2}.get(parts[0])
    if head != REPOSITORIES or len(parts) != shape or "" in parts or ".." in parts:
        raise InvalidSpec(f"{directory!r} is not the directory of a repository")
    return name


def maintenance(directory: str) -> str:
    """The folder of what maintenance notes about a repository, outside of restic's own."""
    return f"maintenance/{repository_name(directory)}"


def dropped(directory: str) -> str:
    """Packs that were pruned and wait to be removed."""
    return f"{maintenance(directory)}/dropped.json"


def is_data(name: str) -> bool:
    """Whether a blob is one of restic's packs: written once, read rarely, most of all bytes."""
    return name.startswith(f"{REPOSITORIES}/") and "/data/" in name


class _File(Model):
    #: What sentences call it.
    NAME: ClassVar[str]

    format_version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        said = {key: value for key, value in self.to_dict().items() if value not in ([], {})}
        text = json.dumps(said, sort_keys=True, indent=1, ensure_ascii=False)
        return text.encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises Damaged: not what it should be, or written by a newer Ararat."""
        try:
            found = cls.model_validate_json(data)
        except ValidationError as exc:
            raise Damaged(
                f"{cls.NAME} is not what Ararat writes: it is damaged, or another program's"
            ) from exc
        if found.format_version > FORMAT_VERSION:
            raise Damaged(
                f"{cls.NAME} has format {found.format_version}, this Ararat reads up to "
                f"{FORMAT_VERSION}: upgrade",
                reason="NewerFormat",
            )
        return found


class FormerManifestKey(Model):
    """What proves manifests that were signed before a rotation of the master key."""

    #: Fingerprint of the master key that it was derived from.
    former: str
    #: Fingerprint of the master key that opens ``sealed``.
    opened_by: str
    sealed: str


class LocationFile(_File):
    """``location.json``: whose data this is. Changed only with If-Match."""

    NAME = LOCATION

    location_id: str = Field(min_length=1)
    #: UID of the one cluster that may write (its kube-system namespace's).
    owner: str
    #: Fingerprints of the master keys that open what is stored here: more than one only while the
    #: key is being rotated.
    key_fingerprints: list[str] = []
    former_manifest_keys: list[FormerManifestKey] = []


class LocationKeysFile(_File):
    """``location-keys.json``: written with every change of the keys, read in a recovery only."""

    NAME = LOCATION_KEYS

    former_manifest_keys: list[FormerManifestKey] = []


class CurrentFile(_File):
    """``current.json``: which directory is the repository. Create-only.

    Only a rotation of the master key changes it, with If-Match; the directory only where it
    re-encrypts (``FollowingFile``).
    """

    NAME = "current.json"

    directory: str = Field(min_length=1)
    repository_name: str = Field(min_length=1)
    #: restic's own id of the repository (64 hex digits).
    repository_id: str = ""
    #: restic key that opens it (64 hex digits).
    key_id: str = ""
    #: Fingerprint of the master key that the password was derived from.
    key_fingerprint: str = ""
    #: While the master key is being rotated: restic key by fingerprint, of all that open it.
    keys: dict[str, str] = {}
    #: Fingerprint of the master key under which the repository's own keys were made. A re-wrap
    #: leaves it as it is; "" is one made before this was noted.
    made_under: str = ""

    def for_key(self, fingerprint: str) -> Self:
        """As it is for the holder of that master key, if it is one of those that open it."""
        key_id = self.keys.get(fingerprint)
        if key_id is None:
            return self
        return self.model_copy(update={"key_id": key_id, "key_fingerprint": fingerprint})


class FollowingFile(_File):
    """``next.json``: a repository whose data is stored anew in another directory. Create-only at
    first, so that all who do it do it in the same one; then changed with If-Match."""

    NAME = "next.json"

    #: Directory that is left.
    former: str = Field(min_length=1)
    #: What ``current.json`` is to say.
    successor: CurrentFile
    #: Since when it says that.
    switched_at: datetime | None = None
    #: Since when no backup names ``former``.
    released_at: datetime | None = None


def _backup(name: str) -> str:
    return f"{BACKUPS}/{_object(name)}"


def _object(name: str) -> str:
    if not is_object_name(name):
        raise InvalidSpec(f"{name[:80]!r} is not the name of a Kubernetes object")
    return name
