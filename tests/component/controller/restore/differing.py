"""What a restored object does not have in common with the stored one, and the tables that say so.

Shared by the comparison in a cluster of the same version (``test_many_kinds``) and in one of a
newer version (``tests/versions``).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ararat.kube import KubeApi, ResourceType
from ararat.kube.errors import ApiNotFound, KindNotServed
from ararat.kube.resources import NAMESPACES
from controller.restore.stored import StoredObject
from tests.component import many_kinds
from tests.component.controller.restore.world import World, until
from tests.component.many_kinds import Made

TABLES = Path(__file__).parents[4] / "docs" / "restore-differences.md"


@dataclass(frozen=True)
class Row:
    """One line of a table: a kind (``*``: every), a field (``...*``: all below)."""

    kind: str
    field: str

    def explains(self, kind: str, path: str) -> bool:
        if self.kind not in ("*", kind):
            return False
        if self.field.endswith("*"):
            return path.startswith(self.field[:-1])
        return path == self.field


def rows(section: str = "") -> list[Row]:
    """The rows of the table below a heading; of the first table without one."""
    text = TABLES.read_text()
    begin = text.index(f"\n## {section}\n") + 1 if section else 0
    table = text[begin:].split("\n## ", 1)[0]
    cells = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    return [Row(found[1].strip(" `"), found[2].strip(" `")) for found in cells]


def prove_explained(found: set[tuple[str, str]], by: Sequence[Row], *, used: Sequence[Row]) -> None:
    """Every difference has its row, and each row of ``used`` a difference."""
    unexplained = {each for each in found if not any(row.explains(*each) for row in by)}
    unused = {row for row in used if not any(row.explains(*each) for each in found)}
    lines = [f"not explained: {kind} {path}" for kind, path in sorted(unexplained)]
    lines += [f"explains nothing: {row}" for row in sorted(unused, key=str)]
    assert not lines, "\n".join(lines)


async def back_up_everything(world: World, source: KubeApi) -> list[Made]:
    """Every kind of the fixture, made in the source and stored as a backup stores it."""
    await source.create(NAMESPACES, {"metadata": {"name": world.wp}})
    made = await many_kinds.install(source, world.wp, settle=_settle)
    await world.backup(*(_stored(one) for one in made))
    return made


async def _settle(look: Callable[[], Awaitable[bool]]) -> None:
    await until(look, seconds=60, what="the kinds of the fixture to be served")


def _stored(made: Made) -> StoredObject:
    """As ``controller.backup.collect`` stores it."""
    body = made.obj
    if made.type.qualified != "services":
        body["metadata"].pop("managedFields", None)
    return StoredObject(made.type.plural, made.type.group, body)


async def differences(api: KubeApi, made: Sequence[Made]) -> set[tuple[str, str]]:
    """Kind and path of everything in which what was restored is not what was made."""
    preferred = {rt.qualified: rt for rt in (await api.discover()).resources}
    found = set()
    for one in made:
        kinds = [one.type, preferred.get(one.type.qualified, one.type)]
        there = await _restored(api, one, kinds)
        found |= {(one.type.qualified, path) for path in _differences(one.obj, there)}
    return found


async def _restored(api: KubeApi, one: Made, kinds: Sequence[ResourceType]) -> Any:
    """In the version in which it was stored; where that is served no more, in the other one."""
    for kind in kinds:
        try:
            return await api.get(kind, one.id[2], namespace=one.id[1] or None)
        except KindNotServed:
            continue
        except ApiNotFound:
            break
    return {}


def _differences(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Paths of everything that is not the same; items of lists by their place."""
    if before == after:
        return
    if not after and not at:
        yield "(the object)"
    elif isinstance(before or after, dict) and isinstance(after or before, dict):
        one, other = before or {}, after or {}
        for key in one.keys() | other.keys():
            shown = f"[{key}]" if re.search(r"[./]", key) else f".{key}"
            yield from _differences(one.get(key), other.get(key), (at + shown).lstrip("."))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from _differences(one, other, f"{at}[]")
    else:
        yield at
