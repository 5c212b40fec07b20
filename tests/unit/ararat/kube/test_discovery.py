from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ararat.kube import ApiUnavailable
from ararat.kube.discovery import discover

from .virtual import virtual


def group(name: str, *versions: str, preferred: str) -> dict[str, Any]:
    return {
        "name": name,
        "versions": [{"groupVersion": f"{name}/{v}", "version": v} for v in versions],
        "preferredVersion": {"groupVersion": f"{name}/{preferred}", "version": preferred},
    }


def resources(*names: str) -> dict[str, Any]:
    return {"resources": [{"name": n, "kind": n.title(), "namespaced": True} for n in names]}


DOCUMENTS: dict[str, dict[str, Any]] = {
    "/apis": {
        "groups": [
            group("batch", "v1beta1", "v1", preferred="v1"),
            group("metrics.k8s.io", "v1beta1", preferred="v1beta1"),
        ]
    },
    "/api/v1": resources("pods", "pods/log", "events"),
    "/apis/batch/v1": resources("jobs", "jobs/status"),
    "/apis/batch/v1beta1": resources("jobs", "cronjobs"),
}


async def fetch(path: str) -> Mapping[str, Any]:
    if path not in DOCUMENTS:
        raise ApiUnavailable(f"{path}: the server is currently unable to handle the request")
    return DOCUMENTS[path]


@virtual
async def test_each_resource_once_in_its_preferred_version():
    found = await discover(fetch)
    assert [(r.qualified, r.version) for r in found.resources] == [
        ("pods", "v1"),
        ("events", "v1"),
        ("jobs.batch", "v1"),
        ("cronjobs.batch", "v1beta1"),
    ]
    assert found.failed_groups == ["metrics.k8s.io/v1beta1"]


@virtual
async def test_without_its_roots_nothing_is_known():
    async def broken(path: str) -> Mapping[str, Any]:
        if path == "/api/v1":
            raise ApiUnavailable("away")
        return await fetch(path)

    with pytest.raises(ApiUnavailable):
        await discover(broken)
