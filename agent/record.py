"""The status of one job, as its only writer writes it.

Problem: an agent, the one that replaced it and the controller may all want to write the same
status; and after an error nobody knows whether a write went through.
Decision: every write carries the resource version it was decided on. On a conflict the object is
read again: where the write had gone through, fine; where the job is still in the phase that this
writer gave it, the write is repeated on the new version (somebody set ``spec.cancel``); else
somebody else has taken the job, and the run stops (JobLost).
Limits: one record per run; calls on it are serialised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.api.nodejob import JobPhase
from ararat.errors import AraratError, Retryable
from ararat.kube.api import KubeApi, KubeObject
from ararat.kube.errors import ApiConflict, ApiNotFound
from ararat.kube.resources import of
from ararat.kube.status import patch_status

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0

J = TypeVar("J", PodVolumeBackup, PodVolumeRestore)


class JobLost(AraratError):
    """The job was deleted, or somebody else ended or took it: nothing more may be written."""

    default_reason = "Taken"


class JobRecord(Generic[J]):
    """A job object and its last known version."""

    def __init__(self, api: KubeApi, kind: type[J], raw: KubeObject) -> None:
        self._api = api
        self._kind: type[J] = kind
        self._type = of(kind)
        self._lock = asyncio.Lock()
        self.raw = raw
        self.job: J = kind.parse(raw)

    @property
    def phase(self) -> JobPhase:
        return self.job.status.phase

    async def update(self, status: Mapping[str, Any]) -> None:
        """Writes until it is written. Raises JobLost, or what no repetition can mend."""
        status = _without_blanks(status)
        async with self._lock:
            pause = _FIRST_PAUSE
            while True:
                try:
                    await self._write(status)
                    return
                except Retryable as error:
                    await asyncio.sleep(max(pause, getattr(error, "retry_after", None) or 0.0))
                    pause = min(2 * pause, _LONGEST_PAUSE)

    async def try_update(self, status: Mapping[str, Any]) -> bool:
        """Writes once, unless another write is under way; for what may be skipped. JobLost."""
        if self._lock.locked():
            return False
        status = _without_blanks(status)
        async with self._lock:
            try:
                await self._write(status)
            except Retryable:
                return False
            return True

    async def _write(self, status: Mapping[str, Any]) -> None:
        while True:
            meta = self.job.metadata
            try:
                raw = await patch_status(
                    self._api,
                    self._type,
                    self.raw,
                    status,
                    resource_version=meta.resource_version,
                )
            except ApiNotFound as error:
                raise JobLost(f"{self._kind.KIND} {meta.name} was deleted.") from error
            except ApiConflict:
                if await self._refresh(status):
                    return
            else:
                self._accept(raw)
                return

    async def _refresh(self, status: Mapping[str, Any]) -> bool:
        """Reads the job again; whether it holds what was to be written. Raises JobLost."""
        held, uid, name = self.phase, self.job.uid, self.job.name
        try:
            raw = await self._api.get(self._type, name, namespace=self.job.metadata.namespace)
        except ApiNotFound as error:
            raise JobLost(f"{self._kind.KIND} {name} was deleted.") from error
        fresh = self._kind.parse(raw)
        if fresh.uid != uid:
            raise JobLost(f"{self._kind.KIND} {name} was replaced by another of the same name.")
        if _holds(raw.get("status") or {}, status):
            self._accept(raw)
            return True
        if fresh.status.phase is not held:
            raise JobLost(
                f"{self._kind.KIND} {name} is {fresh.status.phase}; somebody else changed it."
            )
        self._accept(raw)
        return False

    def _accept(self, raw: KubeObject) -> None:
        self.raw = raw
        self.job = self._kind.parse(raw)


def _without_blanks(value: Any) -> Any:
    """The same without empty texts: an absent field says the same, and removes an old text.

    (API servers before 1.21, built with a newer Go, take an empty text for null and refuse it.)
    """
    if isinstance(value, Mapping):
        return {
            key: None if inner == "" else _without_blanks(inner) for key, inner in value.items()
        }
    if isinstance(value, list):
        return [
            {key: inner for key, inner in item.items() if inner != ""}
            if isinstance(item, Mapping)
            else item
            for item in value
        ]
    return value


def _holds(found: Any, wanted: Any) -> bool:
    """Whether a merge patch of ``wanted`` would change nothing in ``found``."""
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            return all(value is None for value in wanted.values())
        return all(
            (key not in found) if value is None else _holds(found.get(key), value)
            for key, value in wanted.items()
        )
    return bool(found == wanted)
