"""What a repository needs next, and whether it may be done now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ararat.api.repository import Maintenance, MaintenanceAction, RepositoryPhase
from ararat.duration import parse
from ararat.errors import InvalidSpec
from ararat.human import plural

#: The data is read in so many parts, one with each check.
PARTS = 30
#: Dropped packs are kept this long; after that a prune that repacks nothing removes them.
_DROP_GRACE = timedelta(hours=24, minutes=5)
_FIRST_RETRY = timedelta(minutes=30)
_LONGEST_RETRY = timedelta(hours=24)
#: A repository that was just pruned is not pruned again for what is unused.
_LEAST_BETWEEN = timedelta(hours=24)
#: What a store says that takes no more. (``DiskFull`` is a node's own disk.)
_STORE_FULL = "StoreFull"
#: The store's clock, which drops are measured by, may be behind ours.
_LEAST_BETWEEN_SWEEPS = timedelta(hours=1)


@dataclass(frozen=True)
class Plan:
    """How often; from the chart's values."""

    prune_every: timedelta = timedelta(days=7)
    unused_percent: int = 10
    check_every: timedelta = timedelta(days=1)
    #: Nothing takes longer.
    window: timedelta = timedelta(hours=4)
    #: Jobs at once, in the whole cluster.
    at_once: int = 2

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Plan:
        """Raises InvalidSpec naming the variable."""
        prefix = "ARARAT_MAINTENANCE_"

        def span(name: str, default: timedelta) -> timedelta:
            text = env.get(prefix + name, "")
            try:
                return parse(text) if text else default
            except InvalidSpec as exc:
                raise InvalidSpec(f"{prefix}{name}: {exc.message}") from exc

        def number(name: str, default: int) -> int:
            text = env.get(prefix + name, "") or str(default)
            if not (text.isascii() and text.isdigit() and 0 < int(text) <= 100):
                raise InvalidSpec(f"{prefix}{name} is {text!r}, which is no number from 1 to 100")
            return int(text)

        own = cls()
        return cls(
            prune_every=span("PRUNE_EVERY", own.prune_every),
            unused_percent=number("UNUSED_PERCENT", own.unused_percent),
            check_every=span("CHECK_EVERY", own.check_every),
            window=span("WINDOW", own.window),
            at_once=number("AT_ONCE", own.at_once),
        )


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A maintenance job that was told to end, and whose pod has not gone yet."""

    job: str
    #: The node that should have ended the pod by now.
    node: str = ""
    #: It is not waited for any longer than this.
    until: datetime | None = None

    def __str__(self) -> str:
        text = f"the end of job {self.job}, which gave way"
        if self.node and self.until:
            text += (
                f": node {self.node} does not end its pod, which counts as gone from "
                f"{self.until:%Y-%m-%d %H:%M} UTC on; remove the node if it is dead"
            )
        return text


@dataclass(frozen=True)
class Situation:
    """A repository as it is now."""

    phase: RepositoryPhase | None
    maintenance: Maintenance
    made: datetime
    #: Node jobs on it that have not ended.
    holders: Sequence[str] = ()
    #: Backups that will need it before long.
    waiting: Sequence[str] = ()
    deleting: bool = False
    ending: Ending | None = None
    #: Maintenance jobs of other repositories.
    others: int = 0
    #: Nothing more fits into its location.
    full: bool = False
    #: Snapshots that are to be copied into the repository that takes its place.
    to_copy: int = 0


@dataclass(frozen=True)
class Run:
    action: MaintenanceAction
    data_subset: int = 0
    max_repack_size: str | None = None
    at_once: bool = False


@dataclass(frozen=True)
class Decision:
    run: Run | None = None
    #: Something is due, and this keeps it from beginning.
    waits_for: str | None = None


def decide(situation: Situation, plan: Plan, *, now: datetime) -> Decision:
    due = _due(situation, plan, now)
    if due is None:
        return Decision()
    if situation.ending is not None:  # it may hold a lock to its last moment
        return Decision(waits_for=str(situation.ending))
    # Copying only reads here, and adds there: it is in nobody's way, and may take days.
    alone = due.action is not MaintenanceAction.REENCRYPT
    if alone and situation.holders:
        return Decision(waits_for=plural(len(situation.holders), "node job"))
    if alone and situation.waiting:
        return Decision(waits_for=f"backup {situation.waiting[0]}")
    if alone and situation.deleting:
        return Decision(waits_for="a deletion")
    if situation.others >= plan.at_once:
        return Decision(waits_for=f"maintenance of {situation.others} other repositories")
    return Decision(run=due)


def overdue(maintenance: Maintenance, made: datetime, plan: Plan, *, now: datetime) -> bool:
    """Twice the time has passed: somebody should look why."""
    pruned = maintenance.last_prune_time or made
    checked = maintenance.last_check_time or made
    return now - pruned > 2 * plan.prune_every or now - checked > 2 * plan.check_every


def _due(situation: Situation, plan: Plan, now: datetime) -> Run | None:
    state = situation.maintenance
    last = state.last
    if last is not None and not last.good and last.completion_time is not None:
        pause = min(_FIRST_RETRY * 2 ** min(max(state.failures - 1, 0), 10), _LONGEST_RETRY)
        if now - last.completion_time < pause:
            return None
    if situation.to_copy and not situation.full:
        return Run(MaintenanceAction.REENCRYPT)
    damaged = situation.phase is RepositoryPhase.DAMAGED
    if not damaged:  # a damaged one is checked, and nothing of it is deleted
        pruned = state.last_prune_time or situation.made
        refused = last is not None and not last.good and last.reason == _STORE_FULL
        if refused or (situation.full and now - pruned >= _LEAST_BETWEEN_SWEEPS):
            # Nothing can be written any more: free what needs no writing, and at once.
            return Run(MaintenanceAction.PRUNE, max_repack_size="0", at_once=True)
        if now - pruned >= plan.prune_every or _much_unused(state, plan, pruned, now):
            return Run(MaintenanceAction.PRUNE)
        ripe = state.dropped_since is not None and now - state.dropped_since >= _DROP_GRACE
        if ripe and now - pruned >= _LEAST_BETWEEN_SWEEPS:
            return Run(MaintenanceAction.PRUNE, max_repack_size="0")
    if now - (state.last_check_time or situation.made) >= plan.check_every:
        return Run(MaintenanceAction.CHECK, data_subset=state.data_subset % PARTS + 1)
    return None


def _much_unused(state: Maintenance, plan: Plan, pruned: datetime, now: datetime) -> bool:
    held = state.size_bytes - state.dropped_bytes
    unused = held - state.used_bytes
    if not state.last_check_time or now - pruned < _LEAST_BETWEEN:
        return False
    return held > 0 and unused * 100 >= held * plan.unused_percent
