"""Objects of more than forty kinds, restored into an empty API server, compared field by field.

What differs afterwards is a table for users, docs/restore-differences.md; this test holds the two
equal, row by row. Source and target are two API servers of one version; ``make versions`` does the
same with a newer target.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from ararat.kube import KubeApi, connect
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.restore.differing import (
    back_up_everything,
    differences,
    prove_explained,
    rows,
)
from tests.component.controller.restore.scene import ended
from tests.component.controller.restore.world import World


@pytest.fixture(scope="module")
def source_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


@pytest.fixture
async def source(source_plane: ControlPlane) -> AsyncIterator[KubeApi]:
    async with connect(str(source_plane.kubeconfig)) as connected:
        yield connected


async def test_what_differs_is_what_the_table_says(world: World, source: KubeApi) -> None:
    made = await back_up_everything(world, source)
    await world.restore(includeClusterResources=True)
    status = await ended(world, "Completed")
    assert status["objects"]["leftAlone"] == 0
    found = await differences(world.api, made)
    prove_explained(found, rows(), used=rows())

    # Compared with the same backup, what was restored is as it was: the noise is known.
    await world.restore("again", includeClusterResources=True)
    status = await ended(world, "Completed", "again")
    assert status["objects"].get("created", 0) == 0
    assert [warning for warning in status["warnings"] if "differs" in warning] == []
    assert status["objects"]["leftAlone"] == status["objects"]["total"]
