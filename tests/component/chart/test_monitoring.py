"""Alerts and dashboard: rendered by helm, and about series that the controller really exports.

Limits: what Prometheus makes of them is seen in test_alerts.py and in the life tests' dashboard.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from controller import coverage_metrics, metrics
from tests.component.chart.test_chart import CHART, one, render

ON = {
    "monitoring": {
        "alerts": {"enabled": True, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True},
        "dashboard": {"enabled": True},
    }
}
_SERIES = re.compile(r"\bararat_[a-z_]+\b")


def exported() -> set[str]:
    """Names of all series, from the words of the modules that make them."""
    sources = [Path(str(module.__file__)).read_text() for module in (metrics, coverage_metrics)]
    found = {name for source in sources for name in re.findall(r'"(ararat_[a-z_]+)"', source)}
    keys = re.search(r"names = \{(.*?)\}", sources[0], flags=re.DOTALL)
    assert keys is not None
    return found | {f"ararat_repository_{k}" for k in re.findall(r'"([a-z_]+)":', keys.group(1))}


def check(expression: str) -> None:
    names = set(_SERIES.findall(expression))
    assert names, expression
    assert names <= exported(), names - exported()


def test_off_by_default():
    kinds = {(o["kind"], o["metadata"]["name"]) for o in render()}
    assert not [name for kind, name in kinds if kind in ("PrometheusRule", "PodMonitor")]
    assert not [name for _, name in kinds if name.endswith("-dashboard")]


def test_alerts():
    rule = one(render(ON), "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    (group,) = rule["spec"]["groups"]
    names = [alert["alert"] for alert in group["rules"]]
    assert len(set(names)) == len(names) >= 8
    for alert in group["rules"]:
        check(alert["expr"])
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"]["summary"].endswith(".")
        used = set(re.findall(r"\$labels\.([a-z]+)", json.dumps(alert["annotations"])))
        kept = re.findall(r"by \(([a-z, ]+)\)", alert["expr"])
        for label in used:  # what a sentence names, the expression must keep
            assert all(label in labels.split(", ") for labels in kept), alert["alert"]
    source = yaml.safe_load((CHART / "alerts/ararat.yaml").read_text())
    assert source == rule["spec"]["groups"]


def test_dashboard():
    config = one(render(ON), "ConfigMap", "-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    board: dict[str, Any] = json.loads(config["data"]["ararat.json"])
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) >= 10
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        for target in panel["targets"]:
            check(target["expr"])
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_pods_that_are_monitored_have_the_port():
    objects = render(ON)
    (endpoint,) = one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    for kind in ("Deployment", "DaemonSet"):
        (container,) = one(objects, kind)["spec"]["template"]["spec"]["containers"]
        assert endpoint["port"] in {port["name"] for port in container["ports"]}
