"""Lives that end at a write: the write is made or not, and nothing after it is.

Either at a write of which the number is given; or, one life after the other, at every write that
there is, once before and once after it: each life goes on from where the former one ended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ararat.blob.errors import StoreUnreachable

_LOOKS = frozenset(
    {"get", "list", "pages", "watch", "head", "read", "now", "list_directories", "close"}
)
#: Names that are made from what is random: another one in each life.
_RANDOM = re.compile(r"[0-9a-f]{64}")


@dataclass
class Life:
    #: The number of its last write; None: it ends when it is done.
    at: int | None = None
    #: The last write is made, and its answer is lost.
    after: bool = False
    #: Where former lives ended, and whether the write was made: this one ends elsewhere, if it can.
    graves: set[tuple[tuple[str, ...], bool]] | None = None
    dead: bool = False
    writes: list[tuple[str, ...]] = field(default_factory=list)

    def ends(self, step: tuple[str, ...]) -> bool:
        """Whether this write, which was just noted, is the last."""
        if self.graves is None:
            return len(self.writes) == self.at
        for after in (False, True):
            if (step, after) not in self.graves:
                self.graves.add((step, after))
                self.after = after
                return True
        return False


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
            shapes = [shape for a in args if isinstance(a, Mapping) for shape in _shape(a)]
            step = (*(_RANDOM.sub("*", part) for part in life.writes[-1]), *shapes)
            if not life.ends(step):
                return await method(*args, **kwargs)
            life.dead = True
            if life.after:
                await method(*args, **kwargs)
            raise StoreUnreachable("killed")

        return call


def _shape(body: Mapping[str, Any]) -> list[str]:
    """What an object or a patch sets, without the values, in which times and random names are."""
    return sorted(
        f"{key}.{below}"
        for key, part in body.items()
        for below in (part if isinstance(part, Mapping) else [""])
    )
