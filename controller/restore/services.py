"""Services, as they can be created again. Pure.

Decision: addresses that the old cluster allocated go (cluster IPs, node ports, health-check port,
address families), because another service may hold them by now. What the *user* asked for stays:
the only trace of that is ``kubectl``'s last-applied annotation. A headless service stays headless.
Limits: a node port that somebody asked for by other means than ``kubectl apply`` is not known to
be wanted, and is allocated anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .stored import Object

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def prepare_service(service: Object) -> None:
    """Make a stripped service creatable (in place)."""
    spec = service["spec"]
    asked = _last_applied_spec(service)
    if spec.get("clusterIP") != "None":
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)
    if "ipFamilies" not in asked:
        spec.pop("ipFamilies", None)
    if spec.get("ipFamilyPolicy") == "SingleStack" and "ipFamilyPolicy" not in asked:
        spec.pop("ipFamilyPolicy", None)
    if "healthCheckNodePort" not in asked:
        spec.pop("healthCheckNodePort", None)
    wanted = _node_ports(asked)
    for port in spec.get("ports") or []:
        if "nodePort" in port and port["nodePort"] not in wanted:
            port.pop("nodePort")


def _node_ports(spec: Mapping[str, Any]) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")}


def _last_applied_spec(service: Mapping[str, Any]) -> Mapping[str, Any]:
    annotations = service["metadata"].get("annotations") or {}
    try:
        applied = json.loads(annotations.get(LAST_APPLIED) or "{}")
    except ValueError:
        return {}
    spec = applied.get("spec") if isinstance(applied, dict) else None
    return spec if isinstance(spec, dict) else {}
