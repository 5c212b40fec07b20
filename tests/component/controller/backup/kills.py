"""Leaders that end in the middle of a call.

Decision: every call of the API and of the store is counted, and the one that is chosen never
returns: it is made or not made, as chosen, its answer is lost, and the leader is cancelled. Watches
are not counted: they never end anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ararat.blob.errors import StoreUnreachable

#: Calls that only look.
_READS = frozenset({"get", "list", "pages", "discover", "server_version", "head", "read", "now"})
_DYING_SECONDS = 2.0
_NOT_COUNTED = frozenset({"watch", "pages", "close", "list_directories"})


@dataclass
class Killer:
    """Ends the leader at the ``at``-th call of this life; counts on without end if it is None."""

    at: int | None = None
    #: The call is made first, and only its answer is lost.
    after: bool = False
    calls: list[str] = field(default_factory=list)
    fired: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last(self) -> str:
        return self.calls[-1] if self.calls else "nothing"

    async def around(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        self.calls.append(name)
        if len(self.calls) != self.at:
            return await work()
        if self.after:
            await work()
        self.fired.set()
        # Who made the call is cancelled in a moment. The REST server's handlers are not: they are
        # waited for, and what they wait for must come to an end.
        await asyncio.sleep(_DYING_SECONDS)
        raise StoreUnreachable("killed")


class Killed:
    """Stands before an API client or a store, and passes everything on."""

    def __init__(self, inner: Any, killer: Killer, *, what: str) -> None:
        self._inner = inner
        self._killer = killer
        self._what = what

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in _NOT_COUNTED:
            return method
        if name in ("list", "read"):
            return lambda *a, **k: self._iterate(name, method(*a, **k))

        async def call(*args: Any, **kwargs: Any) -> Any:
            label = " ".join((self._what, name, *_subject(args)))
            return await self._killer.around(label, lambda: method(*args, **kwargs))

        return call

    async def _iterate(self, name: str, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async def first() -> list[Any]:
            return [item async for item in items]

        for item in await self._killer.around(f"{self._what} {name}", first):
            yield item


def _subject(args: tuple[Any, ...]) -> list[str]:
    """What a call is about: the kind and the name of the object, or the name of the blob."""
    words = [getattr(args[0], "plural", "")] if args else []
    for argument in args[:2]:
        if isinstance(argument, str):
            words.append(argument)
        elif isinstance(argument, dict):
            words.append(str(argument.get("metadata", {}).get("name")))
    return [word for word in words if word]


def is_write(call: str) -> bool:
    return call.split()[1] not in _READS
