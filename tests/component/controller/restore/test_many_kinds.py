"""Objects of more than forty kinds, restored into an empty API server, compared field by field.

What differs afterwards is a table for users, docs/restore-differences.md; this test holds the two
equal, row by row. Source and target are two API servers of one version: another is not built here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ararat.kube import KubeApi, connect
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import NAMESPACES
from controller.restore.stored import StoredObject
from tests.cluster.apiserver import ControlPlane
from tests.component import many_kinds
from tests.component.controller.restore.scene import ended
from tests.component.controller.restore.world import World, until
from tests.component.many_kinds import Made

TABLE = Path(__file__).parents[4] / "docs" / "restore-differences.md"


@pytest.fixture(scope="module")
def source_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


@pytest.fixture
async def source(source_plane: ControlPlane) -> AsyncIterator[KubeApi]:
    async with connect(str(source_plane.kubeconfig)) as connected:
        yield connected


async def _settle(look: Callable[[], Awaitable[bool]]) -> None:
    await until(look, seconds=60, what="the kinds of the fixture to be served")


def _backed_up(made: Made) -> StoredObject:
    """As ``controller.backup.collect`` stores it."""
    body = made.obj
    if made.type.qualified != "services":
        body["metadata"].pop("managedFields", None)
    return StoredObject(made.type.plural, made.type.group, body)


@dataclass(frozen=True)
class Row:
    """One line of the table: a kind (``*``: every), a field (``...*``: all below)."""

    kind: str
    field: str

    def explains(self, kind: str, path: str) -> bool:
        if self.kind not in ("*", kind):
            return False
        if self.field.endswith("*"):
            return path.startswith(self.field[:-1])
        return path == self.field


def _rows() -> list[Row]:
    cells = [line.split("|") for line in TABLE.read_text().splitlines() if line.startswith("| `")]
    return [Row(found[1].strip(" `"), found[2].strip(" `")) for found in cells]


async def test_what_differs_is_what_the_table_says(world: World, source: KubeApi) -> None:
    await source.create(NAMESPACES, {"metadata": {"name": world.wp}})
    made = await many_kinds.install(source, world.wp, settle=_settle)
    await world.backup(*(_backed_up(one) for one in made))
    await world.restore(includeClusterResources=True)
    status = await ended(world, "Completed")
    assert status["objects"]["leftAlone"] == 0
    found = {
        (one.type.qualified, path)
        for one in made
        for path in _differences(one.obj, await _restored(world.api, one))
    }
    rows = _rows()
    unexplained = {each for each in found if not any(row.explains(*each) for row in rows)}
    unused = {row for row in rows if not any(row.explains(*each) for each in found)}
    assert (unexplained, unused) == (set(), set())

    # Compared with the same backup, what was restored is as it was: the noise is known.
    await world.restore("again", includeClusterResources=True)
    status = await ended(world, "Completed", "again")
    assert status["objects"].get("created", 0) == 0
    assert [warning for warning in status["warnings"] if "differs" in warning] == []
    assert status["objects"]["leftAlone"] == status["objects"]["total"]


async def _restored(api: KubeApi, one: Made) -> Any:
    try:
        return await api.get(one.type, one.id[2], namespace=one.id[1] or None)
    except ApiNotFound:
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
