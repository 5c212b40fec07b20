"""Which planned objects a dry run asks the API server about."""

from __future__ import annotations

from controller.restore.rehearsal import some_of_each
from tests.unit.controller.restore.make import plan, stored


def test_some_of_every_kind_come_first() -> None:
    maps = [stored("ConfigMap", f"m{number}", data={}) for number in range(5)]
    made = plan(*maps, stored("Secret", "s", data={}))
    items = [item for item in made.items if item.namespace]
    assert [item.name for item in some_of_each(items, 3)] == ["s", "m0", "m1"]
    assert len(some_of_each(items, 300)) == 6
