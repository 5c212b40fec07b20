"""A repository's object as maintenance reads and writes it: what was done, what is wrong."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ararat.api import Repository
from ararat.api.base import ConditionStatus, with_condition
from ararat.api.repository import (
    Maintenance,
    MaintenanceAction,
    MaintenanceRun,
    RepositoryPhase,
)
from ararat.errors import Damaged, NotFound
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from ararat.maintenance import MaintenanceResult
from controller.context import Context
from controller.location.open import OpenLocation
from controller.maintenance.copying import Copying

_REPOSITORIES = resource_of(Repository)


@dataclass(kw_only=True)
class Record:
    context: Context
    raw: dict[str, Any]
    repository: Repository
    location: OpenLocation
    directory: str
    #: As it is to be; ``save`` writes it.
    state: Maintenance

    @property
    def copying(self) -> Copying | None:
        return self.context.to_copy.get(self.slot)

    @property
    def slot(self) -> tuple[str, str]:
        return (self.location.location_id, self.directory.rpartition("/")[0])

    def update(self, **changes: Any) -> None:
        self.state = self.state.model_copy(update=changes)

    async def save(self, status: dict[str, Any]) -> None:
        absent = dict.fromkeys(_field_names(Maintenance))
        shown = {**status, "maintenance": {**absent, **self.state.to_dict()}}
        with contextlib.suppress(NotFound):
            self.raw = await patch_status(
                self.context.api,
                _REPOSITORIES,
                self.raw,
                shown,
                resource_version=self.raw["metadata"]["resourceVersion"],
            )
            self.repository = Repository.parse(self.raw)

    async def damaged(self, exc: Damaged) -> None:
        if self.repository.status.phase is not RepositoryPhase.DAMAGED:
            await self.context.events.event(
                self.raw, reason=exc.reason, message=exc.message, type="Warning"
            )
        await self._phase(RepositoryPhase.DAMAGED, exc.reason, exc.message)

    async def whole(self, reason: str) -> None:
        """What was damaged for this reason is so no more."""
        condition = next(
            (c for c in self.repository.status.conditions if c.type == "Damaged"), None
        )
        if condition is not None and condition.reason == reason:
            await self._phase(RepositoryPhase.READY, "NoneFound", None)

    async def _phase(self, phase: RepositoryPhase, reason: str, message: str | None) -> None:
        damaged = phase is RepositoryPhase.DAMAGED
        conditions = with_condition(
            self.repository.status.conditions,
            type="Damaged",
            status=ConditionStatus.TRUE if damaged else ConditionStatus.FALSE,
            reason=reason,
            message=message or "",
        )
        await self.save(
            {
                "phase": phase.value,
                "message": message,
                "conditions": [c.to_dict() for c in conditions],
            }
        )


def _field_names(model: type[Maintenance]) -> list[str]:
    return [str(field.alias) for field in model.model_fields.values()]


def after(state: Maintenance, last: MaintenanceRun, result: MaintenanceResult) -> Maintenance:
    """What stands once a run has ended. Pure."""
    update: dict[str, Any] = {"running": None, "last": last}
    if last.action is MaintenanceAction.REENCRYPT:
        update["failures"] = 0 if result.good else state.failures + 1
    elif result.good:
        update["failures"] = 0
        update["size_bytes"] = result.size_bytes
        if result.used_bytes is not None:
            update["used_bytes"] = result.used_bytes
        update["dropped_bytes"] = result.dropped_bytes
        since = result.dropped_since
        update["dropped_since"] = datetime.fromisoformat(since) if since else None
        update["reclaimed_bytes"] = state.reclaimed_bytes + result.reclaimed_bytes
        pruned = last.action is MaintenanceAction.PRUNE
        update["last_prune_time" if pruned else "last_check_time"] = last.completion_time
    else:
        update["failures"] = state.failures + 1
        if last.action is MaintenanceAction.CHECK:  # the same part again
            update["data_subset"] = max(state.data_subset - 1, 0)
    return state.model_copy(update=update)
