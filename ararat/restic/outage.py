"""How long a store may be away before a job ends.

Problem: restic retries for 15 minutes, whatever the cause; a wrong container name then looks like a
slow backup, while giving up at the first error would lose a job of hours to a network blip.
Decision: an outage begins with the first request that fails and ends with the first answer. It is
over-long after 25 s if the store has never answered in this session, if it refuses the credentials
or if the container is missing; after 2 minutes otherwise. A timer decides, not the next request.
Limits: an answer of any kind counts, "not found" among them: it proves that somebody is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ararat.blob.errors import ContainerNotFound
from ararat.errors import AccessDenied, AraratError


class Outage:
    def __init__(
        self, *, patience: float, start_patience: float, on_over: Callable[[AraratError], None]
    ) -> None:
        self._patience = patience
        self._start_patience = start_patience
        self._on_over = on_over
        self._answered = False
        self._since: float | None = None
        self._last: AraratError | None = None
        self._timer: asyncio.TimerHandle | None = None

    def answered(self) -> None:
        self._answered = True
        self._since = None
        self.close()

    def failed(self, exc: AraratError, *, began: float) -> None:
        """A request that was begun at ``began`` (the loop's time) had no useful answer."""
        loop = asyncio.get_running_loop()
        self._last = exc
        self._since = began if self._since is None else min(self._since, began)
        self.close()
        self._timer = loop.call_at(self._since + self._limit(exc), self._over)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _limit(self, exc: AraratError) -> float:
        if isinstance(exc, AccessDenied | ContainerNotFound) or not self._answered:
            return self._start_patience
        return self._patience

    def _over(self) -> None:
        assert self._last is not None
        self._on_over(self._last)
