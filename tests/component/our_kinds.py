"""A real API server that serves our kinds, from the chart's own CRD files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.cluster.api import ApiError
from tests.cluster.apiserver import ControlPlane

CRDS = Path(__file__).parents[2] / "charts/ararat/crds"


@contextmanager
def serving_our_kinds(programs: Path | None = None) -> Iterator[ControlPlane]:
    """A control plane of its own (``programs``: of that version), once every kind is served."""
    plurals = []
    with ControlPlane(programs=programs) as running:
        for file in sorted(CRDS.glob("*.yaml")):
            crd = yaml.safe_load(file.read_text())
            plurals.append(crd["spec"]["names"]["plural"])
            running.api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        running.apiserver.wait_until(
            lambda: all(_served(running, plural) for plural in plurals),
            timeout=30,
            what="our kinds to be served",
        )
        yield running


def _served(control_plane: ControlPlane, plural: str) -> bool:
    try:
        control_plane.api.get(f"/apis/ararat.dev/v1alpha1/{plural}")
    except ApiError:
        return False
    return True
