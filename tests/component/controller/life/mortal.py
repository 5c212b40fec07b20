"""Lives that end at a write: the write is made or not, and nothing after it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ararat.blob.errors import StoreUnreachable

_LOOKS = frozenset(
    {"get", "list", "pages", "watch", "head", "read", "now", "list_directories", "close"}
)


@dataclass
class Life:
    #: The number of its last write; None: it ends when it is done.
    at: int | None = None
    #: The last write is made, and its answer is lost.
    after: bool = False
    dead: bool = False
    writes: list[tuple[str, ...]] = field(default_factory=list)


class Mortal:
    """Stands before an API client or a store, and passes calls on until the last write."""

    def __init__(self, inner: Any, life: Life, *, what: str) -> None:
        self._inner, self._life, self._what = inner, life, what

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in _LOOKS:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            life = self._life
            if life.dead:
                raise StoreUnreachable("dead")
            life.writes.append((self._what, name, *[a for a in args if isinstance(a, str)]))
            if len(life.writes) != life.at:
                return await method(*args, **kwargs)
            life.dead = True
            if life.after:
                await method(*args, **kwargs)
            raise StoreUnreachable("killed")

        return call
