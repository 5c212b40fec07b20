"""One typed call per restic command.

Decision: a method builds arguments (``arguments.py``), runs them (``runner.py``) and parses what
comes out (``messages.py``); whatever can be decided without running restic is decided first.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from ararat.errors import InvalidSpec

from . import arguments, backup, compare, locks, messages, restore
from .copies import copies
from .errors import ResticFailed
from .locks import Lock
from .models import (
    CHANGES_KEPT,
    Access,
    BackupRequest,
    BackupResult,
    Change,
    CheckResult,
    CompareRequest,
    CompareResult,
    DiffResult,
    FindRequest,
    Found,
    KeyInfo,
    LockContent,
    LockOwner,
    Node,
    OnBackupProgress,
    OnRestoreProgress,
    PruneRequest,
    Replaced,
    RepositoryConfig,
    RepositoryStats,
    RestoreRequest,
    RestoreResult,
    SessionStats,
    Snapshot,
    SnapshotStats,
)
from .parent import find_finished, job_tag
from .runner import Runner

log = structlog.get_logger()

#: Kept of what ``check`` complains about; all are counted.
_MESSAGES_KEPT = 100


class Restic:
    """A repository that is open; made by ``session.open_repository``."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._session = runner.session

    @property
    def stats(self) -> SessionStats:
        """Requests, bytes and time of this session so far, by operation."""
        return self._runner.stats

    async def backup(
        self, request: BackupRequest, *, on_progress: OnBackupProgress | None = None
    ) -> BackupResult:
        """Store a volume. See BackupResult for what is a result and not an error."""
        self._needs_write("backup")
        return await backup.run(self._runner, request, on_progress=on_progress)

    async def restore(
        self, request: RestoreRequest, *, on_progress: OnRestoreProgress | None = None
    ) -> RestoreResult:
        """Write a snapshot into a volume. Paths that failed are in the result."""
        return await restore.run(self._runner, request, on_progress=on_progress)

    async def compare(
        self, request: CompareRequest, *, on_line: Callable[[], None] | None = None
    ) -> CompareResult:
        """A volume's content against a snapshot; nothing is written. ``on_line``: restic lives."""
        return await compare.run(self._runner, request, on_line=on_line)

    async def snapshots(
        self, *, host: str | None = None, tags: Sequence[str] = ()
    ) -> list[Snapshot]:
        """Oldest first; those of one host, with all of the tags, where given."""
        found = messages.snapshots(
            await self._json(arguments.snapshots(host=host, tags=tags), what="listing snapshots")
        )
        return sorted(found, key=lambda snapshot: (snapshot.time, snapshot.id))

    async def find_finished(self, *, host: str, job: str) -> Snapshot | None:
        """The snapshot that an earlier run of the same job finished, if there is one."""
        return find_finished(
            await self.snapshots(host=host, tags=[job_tag(job)]), host=host, job=job
        )

    async def cat_config(self) -> RepositoryConfig:
        """The cheapest proof that repository, password and store fit together."""
        command = ["cat", "config"]
        return messages.repository_config(await self._json(command, what="opening the repository"))

    async def ls(
        self, snapshot_id: str, *, path: str | Sequence[str] | None = None, recursive: bool = True
    ) -> AsyncGenerator[Node, None]:
        """The entries of a snapshot, or of directories in it (and of all below); a file is its
        own only entry."""
        held = b""
        async for chunk in self._runner.stream(
            arguments.ls(snapshot_id, path, recursive=recursive), what="listing a snapshot"
        ):
            *lines, held = (held + chunk).split(b"\n")
            for line in lines:
                node = messages.node(messages.parse_message(line.decode(errors="replace")))
                if node is not None:
                    yield node

    def dump(self, snapshot_id: str, path: str) -> AsyncGenerator[bytes, None]:
        """One file's content (or a directory as tar), in pieces.

        Use it with ``contextlib.aclosing`` where it may be left before its end.
        """
        return self._runner.stream(arguments.dump(snapshot_id, path), what=f"reading {path}")

    async def repository_stats(self) -> RepositoryStats:
        found = await self._json(arguments.stats("raw-data"), what="measuring the repository")
        return messages.repository_stats(found)

    async def snapshot_stats(self, snapshot_id: str) -> SnapshotStats:
        found = await self._json(
            arguments.stats("restore-size", snapshot_id), what="measuring a snapshot"
        )
        return messages.snapshot_stats(found)

    async def forget(self, snapshot_ids: Sequence[str]) -> None:
        """Remove snapshots by id; those that are gone already are not an error.

        Raises ResticFailed where restic says that some could not be removed.
        """
        self._needs_maintenance("forget")
        await self._runner.run(arguments.forget(snapshot_ids), what="forgetting snapshots")

    async def prune(self, request: PruneRequest | None = None) -> int:
        """Remove data that no snapshot needs. Returns the most memory it had, in bytes."""
        self._needs_maintenance("prune")
        asked = arguments.prune(request or PruneRequest())
        return (await self._runner.run(asked, what="pruning")).end.peak_rss

    async def check(self, *, read_data_subset: str | None = None) -> CheckResult:
        """Findings are a result; not being able to look is an error."""
        summary: dict[str, Any] = {}
        errors: list[str] = []

        def on_line(line: str) -> None:
            message = messages.parse_message(line)
            if messages.kind(message) == "summary":
                summary.update(message)

        def on_error(message: messages.Message) -> None:
            if messages.kind(message) == "error" and len(errors) < _MESSAGES_KEPT:
                errors.append(str(message.get("message", "")))

        outcome = await self._runner.run(
            arguments.check(read_data_subset=read_data_subset),
            what="checking",
            on_line=on_line,
            on_error=on_error,
            accept=(0, 1),
        )
        fatal = self._session.blobs.fatal
        if fatal is not None:
            raise fatal
        if not summary:
            raise self._runner.failure(outcome, "checking")
        result = messages.check_result(summary, errors)
        if outcome.end.code != 0 and result.ok:
            raise self._runner.failure(outcome, "checking")
        return replace(result, peak_rss=outcome.end.peak_rss)

    async def find(self, request: FindRequest) -> list[Found]:
        """Files by name or pattern, in one, some or all snapshots."""
        return messages.found(await self._json(arguments.find(request), what="looking for files"))

    async def diff(self, before: str, after: str, *, metadata: bool = False) -> DiffResult:
        """What changed between two snapshots; ``metadata``: also where only that differs."""
        changes: list[Change] = []
        count = 0
        statistics: dict[str, Any] = {}

        def on_line(line: str) -> None:
            nonlocal count
            message = messages.parse_message(line)
            if messages.kind(message) == "statistics":
                statistics.update(message)
            elif (change := messages.change(message)) is not None:
                count += 1
                if len(changes) < CHANGES_KEPT:
                    changes.append(change)

        command = arguments.diff(before, after, metadata=metadata)
        outcome = await self._runner.run(command, what="comparing snapshots", on_line=on_line)
        if not statistics:
            raise self._runner.failure(outcome, "comparing snapshots")
        return messages.diff_result(statistics, changes, count=count)

    async def repair_index(self, *, read_all_packs: bool = False) -> None:
        """Write the index anew from the packs that are there."""
        self._needs_maintenance("repairing the index")
        command = arguments.repair_index(read_all_packs=read_all_packs)
        await self._runner.run(command, what="repairing the index")

    async def repair_snapshots(
        self, snapshot_ids: Sequence[str] = (), *, forget: bool = False, dry_run: bool = False
    ) -> list[Replaced]:
        """Snapshots without what is lost; what was made from what. No ids: all snapshots.

        Damaged files are left out of the new snapshot; ``forget`` removes the damaged one.
        """
        self._needs_maintenance("repairing snapshots")
        before = {snapshot.id for snapshot in await self.snapshots()}
        command = arguments.repair_snapshots(snapshot_ids, forget=forget, dry_run=dry_run)
        await self._runner.run(command, what="repairing snapshots")
        made = (snapshot for snapshot in await self.snapshots() if snapshot.id not in before)
        return [Replaced(one.original, one.id) for one in made if one.original in before]

    async def repair_packs(self, pack_ids: Sequence[str]) -> None:
        """Save what is whole in damaged packs, and remove them; ``repair_snapshots`` is next."""
        self._needs_maintenance("repairing packs")
        # restic leaves a copy of each pack in its working directory: here one that goes away.
        with backup.open_directory(self._session.scratch) as scratch:
            await self._runner.run(
                arguments.repair_packs(pack_ids),
                what="repairing packs",
                directory=scratch,
                confined=self._runner.default_sandbox(),
            )

    async def copy_from(self, source: Restic, snapshot_ids: Sequence[str]) -> list[Replaced]:
        """Bring snapshots of another session's repository into this one: originals and copies.

        What an earlier call brought already is not copied again, and is in the result. What was
        forgotten there meanwhile is not.
        """
        self._needs_write("copy")
        origin = source._runner.as_source
        with self._runner.inheriting(source._session.password) as inherited:
            command = arguments.copy(snapshot_ids, source=origin, password_file=inherited.path)
            await self._runner.run(command, what="copying snapshots", inherited=inherited)
        theirs = [one for one in await source.snapshots() if one.id in snapshot_ids]
        found = copies(theirs, await self.snapshots())
        missing = {one.id for one in theirs} - found.keys()
        if missing:
            raise ResticFailed(f"copying snapshots: {min(missing)} has not arrived")
        return [Replaced(original, copied) for original, copied in found.items()]

    async def cat_lock(self, lock_id: str) -> LockContent:
        """What restic itself wrote into a lock."""
        return messages.lock_content(
            await self._json(arguments.cat_lock(lock_id), what="reading a lock")
        )

    async def key_add(self, password: str, *, host: str = "", user: str = "") -> str:
        """A further password for the repository; the new key's id.

        restic hardens it as one that people choose: every later opening with it costs 0.6 s.
        Ararat's own keys are made by ``rekey`` instead.
        """
        self._needs_write("adding a key")
        lines: list[str] = []
        with self._runner.inheriting(password) as inherited:
            command = arguments.key_add(password_file=inherited.path, host=host, user=user)
            await self._runner.run(
                command, what="adding a key", on_line=lines.append, inherited=inherited
            )
        made = messages.new_key_id(lines)
        if made is None:
            raise ResticFailed("adding a key: restic ended without naming the new key")
        return made

    async def key_remove(self, key_id: str) -> None:
        """Take a password's access away. restic refuses to remove the key it was opened with."""
        self._needs_maintenance("removing a key")
        await self._runner.run(arguments.key_remove(key_id), what="removing a key")

    async def key_list(self) -> list[KeyInfo]:
        return messages.keys(await self._json(["key", "list"], what="listing keys"))

    async def list_locks(self) -> list[Lock]:
        """With their owners; restic is not asked, so no lock is taken for it."""
        blobs = self._session.blobs
        return await locks.list_locks(blobs.store, self._session.directory)

    async def remove_lock(self, lock_id: str) -> None:
        """Remove one lock that is known to be dead (``locks.dead_locks``)."""
        self._needs_maintenance("removing a lock")
        blobs = self._session.blobs
        await locks.remove_lock(blobs.store, self._session.directory, lock_id)
        log.warning("restic-lock-removed", directory=self._session.directory, lock=lock_id)

    async def remove_dead_locks(self, *, running: Iterable[LockOwner] = ()) -> int:
        """Remove the locks whose holders are proven to be gone; how many those were.

        ``running``: containers known to run at this moment (see ``locks.dead_locks``).
        """
        found = await self.list_locks()
        now = await self._session.blobs.store.now()
        dead = locks.dead_locks(found, now=now, running=running)
        for lock, why in dead:
            log.info("restic-lock-dead", lock=lock.id, owner=lock.owner, why=why)
            await self.remove_lock(lock.id)
        return len(dead)

    async def _json(self, command: list[str], *, what: str) -> Any:
        """A command whose stdout is one JSON document."""
        lines: list[str] = []
        await self._runner.run(command, what=what, on_line=lines.append)
        try:
            return json.loads("\n".join(lines))
        except ValueError as exc:
            raise ResticFailed(f"{what}: restic's answer is not JSON") from exc

    def _needs_write(self, what: str) -> None:
        if self._session.access is Access.READ_ONLY:
            raise InvalidSpec(f"{what}: this repository is open for reading only")

    def _needs_maintenance(self, what: str) -> None:
        if self._session.access is not Access.MAINTENANCE:
            raise InvalidSpec(f"{what} needs a session for maintenance")
