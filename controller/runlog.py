"""The log of one backup or restore, as kept beside it in the location.

Problem: whoever looks into a failed backup a month later has no pods' logs any more.
Decision: what the controller does for one run is logged twice, as its own structured log and into
a bounded list that is stored gzipped as JSON lines: when the run ends, and for whoever goes on with
it, now and then before (see keptlog). The first line of each controller names the run, so that the
log of a namesake is not taken for its own.
Limits: what a controller wrote in its last seconds is lost with it, and of a run whose log was not
kept all that it wrote; its successor says that it took over. Nothing secret is logged, here as
elsewhere.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Any

import structlog

from ararat.api.base import utcnow

#: Lines kept for one run; the first and the last halves are kept where there are more.
LIMIT = 20_000


class _Ends:
    """Lines, of which the first and the last half are kept where they are too many."""

    def __init__(self, lines: Iterable[dict[str, Any]] = ()) -> None:
        self._head: list[dict[str, Any]] = []
        self._tail: deque[dict[str, Any]] = deque(maxlen=LIMIT // 2)
        #: All that were added.
        self.count = 0
        for line in lines:
            self.add(line)

    def add(self, line: dict[str, Any]) -> None:
        self.count += 1
        (self._head if len(self._head) < LIMIT // 2 else self._tail).append(line)

    @property
    def _dropped(self) -> int:
        return self.count - len(self._head) - len(self._tail)

    def lines(self) -> list[dict[str, Any]]:
        """Those that are kept, and how many are not."""
        left_out = [_left_out(self._dropped, self._tail[0]["time"])] if self._dropped else []
        return [*self._head, *left_out, *self._tail]

    def since(self, number: int) -> list[dict[str, Any]]:
        """Those that were added after so many, as far as they are kept."""
        first_of_tail = len(self._head) + self._dropped
        return [*self._head[number:], *islice(self._tail, max(0, number - first_of_tail), None)]


class RunLog:
    def __init__(self, *, kind: str, name: str, uid: str) -> None:
        self._log = structlog.get_logger("controller").bind(**{kind.lower(): name})
        self._uid = uid
        #: What the controllers before this one wrote, and what this one does.
        self._former, self._own = _Ends(), _Ends()
        #: Lines of this controller, those left out among them.
        self.count = 0
        self._ended = False
        #: Set, and replaced, when there is more to read.
        self._more = asyncio.Event()

    def info(self, event: str, **fields: Any) -> None:
        self._log.info(event, **fields)
        self._keep("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log.warning(event, **fields)
        self._keep("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log.error(event, **fields)
        self._keep("error", event, fields)

    def _keep(self, level: str, event: str, fields: dict[str, Any]) -> None:
        line = {"time": utcnow().isoformat(), "level": level, "event": event, **fields}
        if not self.count:
            line["run"] = self._uid
        self.count += 1
        self._own.add(line)
        self._announce()

    def _announce(self) -> None:
        self._more.set()
        self._more = asyncio.Event()

    def end(self) -> None:
        """Nothing more comes: those that follow are let go."""
        self._ended = True
        self._announce()

    def precede(self, lines: list[dict[str, Any]]) -> None:
        """What the controllers before this one wrote comes first."""
        self._former = _Ends(lines)
        self._announce()

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Every line so far, and each that comes, until the run has ended."""
        number, former = 0, False
        while True:
            more = self._more
            if self._former.count and not former:
                former = True
                for line in self._former.lines():
                    yield line
            lines, number = self._own.since(number), self._own.count
            for line in lines:
                yield line
            if self._ended and more is self._more:
                return
            await more.wait()

    def encode(self) -> bytes:
        """Gzipped JSON lines."""
        lines = [*self._former.lines(), *self._own.lines()]
        return gzip.compress(b"".join(encode_line(line) for line in lines), mtime=0)


def decode(data: bytes, *, uid: str) -> list[dict[str, Any]]:
    """The lines of this very run; none where it is another's, or not readable."""
    try:
        lines = [json.loads(line) for line in gzip.decompress(data).splitlines()]
        return lines if lines[0]["run"] == uid and all(line["time"] for line in lines) else []
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError):
        return []


def _left_out(count: int, time: str) -> dict[str, Any]:
    return {"time": time, "level": "info", "event": "lines left out", "count": count}


def encode_line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, default=str, ensure_ascii=False).encode() + b"\n"


class RunLogs:
    """The logs of the runs that are under way, by UID of their object."""

    def __init__(self) -> None:
        self._logs: dict[str, RunLog] = {}

    def of(self, *, kind: str, name: str, uid: str, resumed: bool = False) -> RunLog:
        log = self._logs.get(uid)
        if log is None:
            log = self._logs[uid] = RunLog(kind=kind, name=name, uid=uid)
            if resumed:
                log.info(
                    "taken over by this controller; what is missing is in the former's own log"
                )
        return log

    def find(self, uid: str) -> RunLog | None:
        return self._logs.get(uid)

    def drop(self, uid: str) -> None:
        log = self._logs.pop(uid, None)
        if log is not None:
            log.end()
