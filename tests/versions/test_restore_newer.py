"""Objects of more than forty kinds, restored into an empty cluster of a newer version.

What differs beyond what always does is a table of its own in docs/restore-differences.md; this test
holds the two equal, row by row.
"""

from __future__ import annotations

from ararat.kube import KubeApi
from tests.component.controller.restore.differing import (
    back_up_everything,
    differences,
    prove_explained,
    rows,
)
from tests.component.controller.restore.scene import ended
from tests.component.controller.restore.world import World

SECTION = "In a newer cluster"
#: The one kind of the fixture that newer clusters do not have in any version.
GONE = "podsecuritypolicies.policy"


async def test_what_differs_is_what_the_tables_say(world: World, source: KubeApi) -> None:
    assert await source.server_version() != await world.api.server_version()
    made = await back_up_everything(world, source)
    await world.restore(includeClusterResources=True)
    status = await ended(world, "PartiallyFailed")
    assert [(each["object"], each["reason"]) for each in status["failures"]] == [
        (f"{GONE} {world.wp}-any", "KindNotServed")
    ]
    assert status["objects"]["leftAlone"] == 0
    found = await differences(world.api, made)
    own = rows(SECTION)
    prove_explained(found, [*rows(), *own], used=own)

    # What the newer server fills in is no difference that anybody is told of.
    await world.restore("again", includeClusterResources=True)
    status = await ended(world, "PartiallyFailed", "again")
    assert status["objects"].get("created", 0) == 0
    told = [warning for warning in status["warnings"] if "differs" in warning]
    assert told == [], "\n".join(told)
