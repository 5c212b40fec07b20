"""Services, as they can be created again. Pure.

Decision: addresses that the old cluster allocated go (cluster IPs, node ports, health-check port,
address families), because another service may hold them by now. What the *user* asked for stays:
``kubectl``'s last-applied annotation and the managed fields tell it (ports that the API server
allocates are in neither). A headless service stays headless.
Limits: in backups made before services kept their managed fields, a node port that somebody asked
for by other means than ``kubectl apply`` is not known to be wanted; ``--preserve-nodeports`` keeps
all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .stored import Object

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def prepare_service(service: Object, *, node_ports: frozenset[int] | None) -> None:
    """Make a stripped service creatable (in place). ``node_ports``: those to keep; None: all."""
    spec = service["spec"]
    asked = _last_applied_spec(service)
    if spec.get("clusterIP") != "None":
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)
    if "ipFamilies" not in asked:
        spec.pop("ipFamilies", None)
    if spec.get("ipFamilyPolicy") == "SingleStack" and "ipFamilyPolicy" not in asked:
        spec.pop("ipFamilyPolicy", None)
    if node_ports is None:
        return
    if spec.get("healthCheckNodePort") not in node_ports:
        spec.pop("healthCheckNodePort", None)
    for port in spec.get("ports") or []:
        if "nodePort" in port and port["nodePort"] not in node_ports:
            port.pop("nodePort")


def asked_node_ports(service: Mapping[str, Any]) -> frozenset[int]:
    """Node ports that somebody asked for, of a service with its managed fields."""
    asked = _last_applied_spec(service)
    found = {port["nodePort"] for port in asked.get("ports") or [] if port.get("nodePort")}
    found.add(asked.get("healthCheckNodePort") or 0)
    spec = service.get("spec") or {}
    for entry in service["metadata"].get("managedFields") or []:
        fields = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if "f:healthCheckNodePort" in fields:
            found.add(spec.get("healthCheckNodePort") or 0)
        for key, owned in (fields.get("f:ports") or {}).items():
            if key.startswith("k:") and "f:nodePort" in owned:
                keys = json.loads(key[2:])
                found |= {
                    port.get("nodePort") or 0
                    for port in spec.get("ports") or []
                    if port.get("port") == keys.get("port")
                    and port.get("protocol", "TCP") == keys.get("protocol", "TCP")
                }
    return frozenset(found - {0})


def _last_applied_spec(service: Mapping[str, Any]) -> Mapping[str, Any]:
    annotations = service["metadata"].get("annotations") or {}
    try:
        applied = json.loads(annotations.get(LAST_APPLIED) or "{}")
    except ValueError:
        return {}
    spec = applied.get("spec") if isinstance(applied, dict) else None
    return spec if isinstance(spec, dict) else {}
