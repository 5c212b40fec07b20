"""The dashboard's queries and the alerts, asked of a real Prometheus that scrapes a leader.

``ARARAT_DASHBOARD`` names a picture: then it is drawn too, once there is something to be seen.
``make dashboard`` does that.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ararat.api import Repository, Restore
from ararat.health import serve
from ararat.kube import of, patch_status
from controller.coverage_metrics import CoverageMetrics
from controller.metrics import ObjectsCollector, exported
from tests.cluster.apiserver import ControlPlane
from tests.cluster.prometheus import Prometheus
from tests.component.chart.test_chart import one, render
from tests.component.controller.backup.world import Volume, World, eventually
from tests.component.controller.life.test_maintenance import maintained
from tests.component.controller.life.time_machine import SCHEDULES, Clock, backups, nudge, schedule
from tests.dashboard.draw import draw

ON = {"monitoring": {"alerts": {"enabled": True}, "dashboard": {"enabled": True}}}


async def history(world: World, clock: Clock) -> None:
    """A schedule whose second backup could not read a volume, and a restore that waits."""
    await world.workload_of("db", "web")
    spec = {
        "cron": "@daily-random",
        "template": {"includedNamespaces": [world.workload]},
        "verify": {"every": "7d"},
    }
    await world.create(SCHEDULES, "nightly", world.namespace, spec=spec)
    for phase in ("Completed", "PartiallyFailed"):

        async def known() -> bool:
            due = (await schedule(world)).status.next_run_time
            return due is not None and due > clock.now

        await eventually(known, what="the schedule says when it is due")
        due = (await schedule(world)).status.next_run_time
        assert due is not None
        clock.now = due
        clock.move(seconds=20)
        await nudge(world, SCHEDULES, "nightly", clock)

        async def made(phase: str = phase) -> bool:
            return phase in (await backups(world)).values()

        await eventually(made, what=f"a backup is {phase}")
        world.volumes["pod-db"] = Volume(fail="Unreadable")
    clock.move(hours=13)  # more than a day and a half after the good one
    (good,) = [name for name, phase in (await backups(world)).items() if phase == "Completed"]
    mapping = {world.workload: f"{world.workload}-copy"}
    await world.create(
        of(Restore), "back", world.namespace, spec={"backup": good, "namespaceMapping": mapping}
    )

    async def waits() -> bool:
        raw = await world.api.get(of(Restore), "back", namespace=world.namespace)
        return bool(Restore.parse(raw).status.waiting)

    await eventually(waits, what="the restore waits for pods that nobody schedules")
    for repository in await world.repositories():
        raw = await world.api.get(of(Repository), repository.name, namespace=world.namespace)
        long_ago = {
            "lastPruneTime": "2026-01-01T00:00:00Z",
            "lastCheckTime": "2026-01-01T00:00:00Z",
            "sizeBytes": 50 << 30,
            "usedBytes": 42 << 30,
        }
        await patch_status(world.api, of(Repository), raw, {"maintenance": long_ago})


async def test_every_panel_shows_something_and_every_rule_is_understood(
    world: World, control_plane: ControlPlane
) -> None:
    chart = render(ON)
    groups = one(chart, "PrometheusRule")["spec"]["groups"]
    board = json.loads(one(chart, "ConfigMap", "-dashboard")["data"]["ararat.json"])
    clock = Clock(world)
    maintained(world, control_plane)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(world.agents())
        leader = await stack.enter_async_context(world.leader())
        await history(world, clock)
        context = leader.context
        metrics = CoverageMetrics(per_claim=True, clock=lambda: context.now().timestamp())
        await metrics.look(context)
        stack.enter_context(exported(ObjectsCollector(context)))
        stack.enter_context(exported(metrics))
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(
            serve(0, ready=lambda: None, host="127.0.0.1", on_start=started.set_result)
        )
        stack.callback(serving.cancel)
        target = f"127.0.0.1:{await started}"
        prometheus = Prometheus(world.path / "prometheus", [target], groups=groups)
        await asyncio.to_thread(prometheus.__enter__)
        stack.callback(prometheus.__exit__)

        async def scraped() -> bool:
            return bool(await asyncio.to_thread(prometheus.query, "ararat_restore_waiting_seconds"))

        await eventually(scraped, what="Prometheus has scraped the leader")
        for panel in board["panels"]:
            for asked in panel["targets"]:
                found = await asyncio.to_thread(prometheus.query, asked["expr"])
                assert found, panel["title"]
                for label in re.findall(r"\{\{(\w+)\}\}", asked["legendFormat"]):
                    assert all(series["metric"].get(label) for series in found), panel["title"]
                values = [float(series["value"][1]) for series in found]
                assert all(value == value for value in values), panel["title"]

        # Nothing has verified a backup yet: what counts is since when that is asked for.
        since = 'ararat_schedule_last_verified_timestamp_seconds{schedule="nightly"}'
        (series,) = await asyncio.to_thread(prometheus.query, since)
        asked = (await schedule(world)).status.verify_since
        assert asked is not None
        assert float(series["value"][1]) == asked.timestamp()

        # The volume that was not read is named, by the metric and by the alert.
        overdue = 'ararat_claim_overdue{schedule="nightly", claim="db"}'
        (series,) = await asyncio.to_thread(prometheus.query, overdue)
        assert series["metric"]["namespace"] == world.workload
        waiting = {"AraratClaimOverdue", "AraratMaintenanceOverdue"}

        async def evaluated() -> list[dict[str, Any]] | None:
            (group,) = (await asyncio.to_thread(prometheus.get, "rules"))["groups"]
            rules: list[dict[str, Any]] = group["rules"]
            pending = {rule["name"] for rule in rules if rule["state"] == "pending"}
            return rules if waiting <= pending else None

        rules = await eventually(evaluated, what=f"{waiting} are about to fire")
        assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
        quiet = {rule["name"] for rule in rules if rule["state"] == "inactive"}
        assert {"AraratLocationUnavailable", "AraratNobodyLeads", "AraratPodsHeld"} <= quiet
        if picture := os.environ.get("ARARAT_DASHBOARD"):
            await asyncio.to_thread(look_at, board, prometheus, Path(picture))


def look_at(board: dict[str, Any], prometheus: Prometheus, picture: Path) -> None:
    """As a person sees it, some time after Prometheus began."""
    time.sleep(30)  # of lines to be seen, not until something has happened
    where = f"http://127.0.0.1:{prometheus.port}"
    said = draw(board, where, picture, seconds=60)
    assert set(said) == {panel["title"] for panel in board["panels"]}
    print("\n".join(f"{title}: {text}" for title, text in said.items()))
    for panel in board["panels"]:
        text = said[panel["title"]].removeprefix(panel["title"])
        assert text.strip(), f"nothing is drawn in {panel['title']}"
        assert not re.search("No data|Unknown panel", text), panel["title"]
