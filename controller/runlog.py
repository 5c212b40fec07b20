"""The log of one backup or restore, as kept beside it in the location.

Problem: whoever looks into a failed backup a month later has no pods' logs any more.
Decision: what the controller does for one run is logged twice, as its own structured log and into
a bounded list that is stored gzipped as JSON lines when the run ends.
Limits: the list lives in memory; after a restart of the controller it begins anew with a line
that says so. Nothing secret is logged, here as elsewhere.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import structlog

from ararat.api.base import utcnow

#: Lines kept for one run; the first and the last halves are kept where there are more.
LIMIT = 20_000


class RunLog:
    def __init__(self, *, kind: str, name: str) -> None:
        self._log = structlog.get_logger("controller").bind(**{kind.lower(): name})
        self._head: list[dict[str, Any]] = []
        self._tail: deque[dict[str, Any]] = deque(maxlen=LIMIT // 2)
        self._dropped = 0
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
        self._announce()
        if len(self._head) < LIMIT // 2:
            self._head.append(line)
            return
        if len(self._tail) == self._tail.maxlen:
            self._dropped += 1
        self._tail.append(line)

    def _announce(self) -> None:
        self._more.set()
        self._more = asyncio.Event()

    def end(self) -> None:
        """Nothing more comes: those that follow are let go."""
        self._ended = True
        self._announce()

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Every line so far, and each that comes, until the run has ended."""
        number = 0
        while True:
            more = self._more
            first_of_tail = len(self._head) + self._dropped
            lines = self._head[number:]
            lines += islice(self._tail, max(0, number - first_of_tail), None)
            number = first_of_tail + len(self._tail)
            for line in lines:
                yield line
            if self._ended and more is self._more:
                return
            await more.wait()

    def encode(self) -> bytes:
        """Gzipped JSON lines."""
        lines = list(self._head)
        if self._dropped:
            lines.append(
                {
                    "time": self._tail[0]["time"],
                    "level": "info",
                    "event": "lines left out",
                    "count": self._dropped,
                }
            )
        lines += self._tail
        return gzip.compress(b"".join(encode_line(line) for line in lines), mtime=0)


def encode_line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, default=str, ensure_ascii=False).encode() + b"\n"


class RunLogs:
    """The logs of the runs that are under way, by UID of their object."""

    def __init__(self) -> None:
        self._logs: dict[str, RunLog] = {}

    def of(self, *, kind: str, name: str, uid: str, resumed: bool = False) -> RunLog:
        log = self._logs.get(uid)
        if log is None:
            log = self._logs[uid] = RunLog(kind=kind, name=name)
            if resumed:
                log.info("taken over by this controller; earlier lines are in the former's log")
        return log

    def find(self, uid: str) -> RunLog | None:
        return self._logs.get(uid)

    def drop(self, uid: str) -> None:
        log = self._logs.pop(uid, None)
        if log is not None:
            log.end()
