"""Which backups of a schedule are kept, and by which rule. Pure.

Problem: rules that count days throw away the last good copy of a volume when newer backups failed.
Decision: as in restic, ``keepDaily: 7`` keeps one backup of each of the last seven days *that have
one*, in the schedule's time zone; of several in one day the newest Completed, else the newest. A
``ttl`` bounds the age of all of them, and is the whole rule where there is no other. Below both
lies the floor: a backup stays while fewer than ``keepAtLeastCompleted`` newer ones answer for each
of its volumes. A newer backup answers for a volume if it holds it, or if it is Completed and the
volume was not there to be backed up any more. So each run of failures ends at the last good copy.
Limits: whoever deletes by hand is not held back by the floor. Backups that never got a manifest
hold nothing that can be restored: they are kept for a while, for people to read why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ararat.api.backup import BackupPhase
from ararat.api.schedule import Retention
from ararat.duration import parse

#: For backups that no schedule made and that have no ttl, and for schedules without any rule.
DEFAULT_TTL = timedelta(days=30)
#: How long one that failed or was cancelled can be looked at.
FAILED_TTL = timedelta(days=14)


@dataclass(frozen=True)
class Held:
    """A backup that has ended."""

    name: str
    #: When it began: what its copy of the data is as old as.
    time: datetime
    phase: BackupPhase
    pinned: bool = False
    #: The volumes it holds; None: not known (yet). Only asked for where it matters: a Completed one
    #: holds all that were there.
    good: frozenset[str] | None = None

    @property
    def restorable(self) -> bool:
        return self.phase.restorable


@dataclass(frozen=True)
class Verdict:
    name: str
    #: Why it is kept, each rule in a few words; none: it is expired.
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return bool(self.reasons)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _week(moment: datetime) -> str:
    year, week, _ = moment.isocalendar()
    return f"{year}-W{week:02d}"


_PERIODS: tuple[tuple[str, Callable[[Retention], int], Callable[[datetime], str]], ...] = (
    ("hourly", lambda r: r.keep_hourly, lambda m: f"{m:%Y-%m-%d %Hh %z}"),
    ("daily", lambda r: r.keep_daily, _day),
    ("weekly", lambda r: r.keep_weekly, _week),
    ("monthly", lambda r: r.keep_monthly, lambda m: f"{m:%Y-%m}"),
    ("yearly", lambda r: r.keep_yearly, lambda m: f"{m:%Y}"),
)


def decide(
    backups: Iterable[Held], retention: Retention, *, zone: ZoneInfo, now: datetime
) -> list[Verdict]:
    """One verdict for each backup, the newest first."""
    newest_first = sorted(backups, key=lambda held: (held.time, held.name), reverse=True)
    restorable = [held for held in newest_first if held.restorable]
    reasons: dict[str, list[str]] = {held.name: [] for held in newest_first}
    for name, why in _by_rules(restorable, retention, zone).items():
        reasons[name] += why
    limit = _limit(retention)
    for held in newest_first:
        own = reasons[held.name]
        age = now - held.time
        if not held.restorable:
            if age <= FAILED_TTL:
                own.append(f"{held.phase.value.lower()} less than {FAILED_TTL.days} days ago")
        elif limit is not None and age > limit:
            own.clear()
        elif not _has_rules(retention):
            own.append(f"younger than {_limit_text(retention)}")
        if held.pinned:
            own.insert(0, "pinned")
    for name, reason in _by_floor(restorable, retention.keep_at_least_completed).items():
        reasons[name].append(reason)
    return [Verdict(held.name, tuple(reasons[held.name])) for held in newest_first]


def expired(backup: Held, *, ttl: str | None, now: datetime) -> bool:
    """For a backup outside all schedules."""
    if backup.pinned:
        return False
    limit = parse(ttl) if ttl else (DEFAULT_TTL if backup.restorable else FAILED_TTL)
    return now - backup.time > limit


def undecided(
    backups: Sequence[Held], retention: Retention, *, zone: ZoneInfo, now: datetime
) -> list[str]:
    """Names of backups whose volumes must be known before anything is expired.

    Few as a rule: what lies behind enough Completed ones is never held by the floor.
    """
    kept = {
        v.name for v in decide(backups, _without_floor(retention), zone=zone, now=now) if v.kept
    }
    floor = retention.keep_at_least_completed
    newest_first = sorted(backups, key=lambda held: (held.time, held.name), reverse=True)
    completed = 0
    met: list[str] = []
    wanted = False
    for held in newest_first:
        if completed >= floor:
            break
        wanted = wanted or (held.restorable and held.name not in kept)
        if held.phase is BackupPhase.COMPLETED:
            completed += 1
        elif held.restorable and held.good is None:
            met.append(held.name)
    return met if wanted else []


def _without_floor(retention: Retention) -> Retention:
    return retention.model_copy(update={"keep_at_least_completed": 0})


def _has_rules(retention: Retention) -> bool:
    return any([retention.keep_last, *(count(retention) for _, count, _ in _PERIODS)])


def _limit(retention: Retention) -> timedelta | None:
    if retention.ttl:
        return parse(retention.ttl)
    return None if _has_rules(retention) else DEFAULT_TTL


def _limit_text(retention: Retention) -> str:
    return retention.ttl or f"{DEFAULT_TTL.days}d"


def _by_rules(
    newest_first: Sequence[Held], retention: Retention, zone: ZoneInfo
) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {held.name: [] for held in newest_first}
    for held in newest_first[: retention.keep_last]:
        found[held.name].append("last")
    if newest_first and _has_rules(retention):  # one just made does not go for being worse
        found[newest_first[0].name].append("newest")
    for word, count, period_of in _PERIODS:
        chosen: dict[str, Held] = {}
        for held in newest_first:
            period = period_of(held.time.astimezone(zone))
            standing = chosen.get(period)
            if standing is None:
                if len(chosen) == count(retention):
                    break
                chosen[period] = held
            elif (
                standing.phase is not BackupPhase.COMPLETED and held.phase is BackupPhase.COMPLETED
            ):
                chosen[period] = held
        for period, held in chosen.items():
            found[held.name].append(f"{word} {period}")
    return found


def _by_floor(newest_first: Sequence[Held], floor: int) -> dict[str, str]:
    """Those that newer ones do not answer for."""
    found: dict[str, str] = {}
    if floor <= 0:
        return found
    completed = 0
    answers: dict[str, int] = {}
    for held in newest_first:
        if completed >= floor:
            break
        if held.phase is BackupPhase.COMPLETED:
            found[held.name] = "one of the last completed"
        elif held.good is None:
            found[held.name] = "what it holds is not known"
        else:
            alone = sorted(v for v in held.good if completed + answers.get(v, 0) < floor)
            if alone:
                more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
                found[held.name] = f"last good copy of {alone[0]}{more}"
        if held.phase is BackupPhase.COMPLETED:
            completed += 1  # holds each volume, or the volume was gone by then
        else:
            for volume in held.good or ():
                answers[volume] = answers.get(volume, 0) + 1
    return found
