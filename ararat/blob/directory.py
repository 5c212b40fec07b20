"""A directory that behaves like a blob container: the blocking half of the filesystem store.

Problem: several processes, on several nodes, write to one directory; a writer may die at any line;
and a file system has neither create-only uploads nor metadata.
Decision: a blob is written to a temporary file in ``.ararat/tmp`` of the same directory and appears
by one ``link`` (create-only: exactly one winner) or one ``rename`` (overwrite). Overwrites and
deletions take ``flock`` on ``.ararat/lock``, which makes If-Match exact between processes. Metadata
stands in a small file of its own whose name holds the etag, written before the blob appears.
Limits: needs hard links (every Linux file system and NFS has them; SMB may not) and, for If-Match
between nodes, a shared file system that carries ``flock`` (NFSv4 does).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from ararat.errors import AccessDenied, AraratError, Conflict, InvalidSpec, NotFound, OutOfSpace

from .errors import ContainerNotFound, StoreUnreachable
from .store import BlobInfo, Names, check_name

_OWN = ".ararat"
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
#: A folder can be removed by a deletion between its making and the link into it.
_LINK_ATTEMPTS = 5


class Directory:
    """Blocking operations; every OSError leaves as one of our own errors."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._temporary = root / _OWN / "tmp"
        self._metadata = root / _OWN / "meta"

    @contextlib.contextmanager
    def errors(self, name: str) -> Iterator[None]:
        """Turns OSError into what the caller can act on."""
        try:
            yield
        except OSError as exc:
            raise self._translate(exc, name) from exc

    def path(self, name: str) -> Path:
        if check_name(name).split("/", 1)[0] == _OWN:
            raise InvalidSpec(f"{name!r} is reserved", reason="InvalidBlobName")
        return self.root / name

    def open(self, name: str) -> int:
        with self.errors(name):
            descriptor = os.open(self.path(name), _READ)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
            raise NotFound(f"{name} is a folder")

    def head(self, name: str) -> BlobInfo:
        with self.errors(name):
            found = os.stat(self.path(name), follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                raise NotFound(f"{name} is a folder")
            return self._info(name, found, self._read_metadata(name, _etag(found)))

    def begin(self) -> tuple[int, Path]:
        """A temporary file, open for writing."""
        path = self._temporary / secrets.token_hex(12)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with self.errors("a temporary file"):
            try:
                return os.open(path, flags, 0o600), path
            except FileNotFoundError:
                self.root.stat()  # the location itself is never made by us
                for folder in (self._temporary, self._metadata):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                return os.open(path, flags, 0o600), path

    def commit(
        self,
        descriptor: int,
        temporary: Path,
        name: str,
        *,
        create_only: bool,
        if_match: str | None,
        metadata: Mapping[str, str] | None,
    ) -> BlobInfo:
        """Make the temporary file the blob ``name``. The caller closes and removes it."""
        target = self.path(name)
        with self.errors(name):
            os.fsync(descriptor)
            found = os.fstat(descriptor)
            sidecar = self._write_metadata(name, _etag(found), metadata) if metadata else None
            try:
                if create_only:
                    self._link(temporary, target)
                else:
                    with self._locked():
                        if if_match is not None:
                            self._compare(target, name, if_match)
                        self._replace(temporary, target)
            except BaseException as exc:
                if sidecar is not None:
                    sidecar.unlink(missing_ok=True)
                if isinstance(exc, FileExistsError):
                    raise Conflict(f"{name} exists already", reason="BlobExists") from exc
                raise
            _sync_directory(target.parent)
            return self._info(name, found, metadata or {})

    def discard(self, descriptor: int, temporary: Path) -> None:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        target = self.path(name)
        with self.errors(name), self._locked():
            try:
                etag = _etag(os.stat(target, follow_symlinks=False))
                target.unlink()
            except (FileNotFoundError, NotADirectoryError):
                self.root.stat()
                return
            self._sidecar(name, etag).unlink(missing_ok=True)
            # Folders exist only as long as there is a blob in them.
            for parent in target.parents:
                if parent == self.root:
                    break
                try:
                    parent.rmdir()
                except OSError:
                    break

    def scan(self, folder: str, *, metadata: bool) -> tuple[list[BlobInfo], Names]:
        """The blobs and the folders directly in ``folder`` ("" is the root)."""
        blobs: list[BlobInfo] = []
        folders: Names = []
        with self.errors(folder or "the location"):
            try:
                entries = list(os.scandir(self.root / folder))
            except (FileNotFoundError, NotADirectoryError):
                self.root.stat()
                return [], []
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if name == _OWN:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif entry.is_file(follow_symlinks=False):
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # deleted meanwhile
                    extra = self._read_metadata(name, _etag(found)) if metadata else {}
                    blobs.append(self._info(name, found, extra))
        return blobs, folders

    def holds_blob(self, folder: str) -> bool:
        blobs, folders = self.scan(folder, metadata=False)
        return bool(blobs) or any(self.holds_blob(below) for below in folders)

    def now(self) -> datetime:
        """What the file system (on NFS: its server) takes for now."""
        descriptor, path = self.begin()
        try:
            os.write(descriptor, b".")
            return _time(os.fstat(descriptor))
        finally:
            self.discard(descriptor, path)

    def _link(self, temporary: Path, target: Path) -> None:
        for attempt in range(_LINK_ATTEMPTS):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(temporary, target)
            except FileNotFoundError:
                if attempt == _LINK_ATTEMPTS - 1 or not temporary.exists():
                    raise
            else:
                return

    def _replace(self, temporary: Path, target: Path) -> None:
        # Deletions hold the lock too, so the folder cannot go between these two lines.
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)

    def _compare(self, target: Path, name: str, etag: str) -> None:
        try:
            found = _etag(os.stat(target, follow_symlinks=False))
        except FileNotFoundError:
            found = ""
        if found != etag:
            raise Conflict(f"{name} was changed by somebody else", reason="BlobChanged")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.root / _OWN / "lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self.root.stat()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _sidecar(self, name: str, etag: str) -> Path:
        return self._metadata / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}-{etag}.json"

    def _write_metadata(self, name: str, etag: str, metadata: Mapping[str, str]) -> Path:
        path = self._sidecar(name, etag)
        path.write_text(json.dumps(dict(metadata)))
        return path

    def _read_metadata(self, name: str, etag: str) -> dict[str, str]:
        try:
            read = json.loads(self._sidecar(name, etag).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(key): str(value) for key, value in read.items()}

    def _info(self, name: str, found: os.stat_result, metadata: Mapping[str, str]) -> BlobInfo:
        return BlobInfo(name, found.st_size, _etag(found), _time(found), dict(metadata))

    def _translate(self, exc: OSError, name: str) -> AraratError:
        if exc.errno in (errno.ENOENT, errno.ENOTDIR):
            if not self.root.is_dir():
                return ContainerNotFound(
                    f"the directory {self.root} is not there: mount or create it"
                )
            return NotFound(f"{name} does not exist", reason="BlobNotFound")
        if exc.errno == errno.ELOOP:
            return NotFound(f"{name} is a symbolic link, not a blob")
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return OutOfSpace(f"{self.root} is full", reason="StoreFull")
        if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return AccessDenied(f"{self.root} refuses access ({exc.strerror})")
        if exc.errno in (errno.ENAMETOOLONG, errno.EISDIR, errno.EINVAL):
            return InvalidSpec(f"{name[:80]!r} cannot be stored ({exc.strerror})")
        return StoreUnreachable(f"{self.root} does not work ({exc.strerror})")


def _etag(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


def _time(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)


def _sync_directory(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # somebody has already deleted the blob, and its folder with it
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
