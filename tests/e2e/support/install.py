"""Installs Ararat as a user would: `helm install`, then wait until it says it is ready."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.support.tools import Echo, Object, Tools
from tests.e2e.support.waiting import eventually

CHART = Path(__file__).parents[3] / "charts/ararat"
RELEASE = "ararat"
CREDENTIALS = "azure"


@dataclass(frozen=True)
class Blob:
    """A Blob container as the pods of a cluster reach it."""

    account: str
    key: str
    container: str
    endpoint: str = ""
    ca_bundle: str = ""
    host_aliases: tuple[tuple[str, str], ...] = ()
    """Addresses and names for the pods' hosts file."""

    def values(self, *, access_mode: str = "ReadWrite", sync_seconds: int = 5) -> Object:
        """Values of the chart."""
        return {
            "location": {
                "accessMode": access_mode,
                "syncPeriodSeconds": sync_seconds,
                "azure": {
                    "accountName": self.account,
                    "container": self.container,
                    "endpoint": self.endpoint,
                    "authentication": "AccountKey",
                    "credentialsSecret": CREDENTIALS,
                    "caBundle": self.ca_bundle,
                },
            },
            "hostAliases": [
                {"ip": address, "hostnames": [name]} for address, name in self.host_aliases
            ],
        }


def create_credentials(tools: Tools, blob: Blob, *, echo: Echo | None = None) -> None:
    """The namespace and the Secret that the chart's values name."""
    where = ("-n", tools.namespace)
    secret = ("create", "secret", "generic", CREDENTIALS)
    tools.run("kubectl", "create", "namespace", tools.namespace, echo=echo)
    tools.run(
        "kubectl",
        *secret,
        *where,
        "--from-file=accountKey=/dev/stdin",
        stdin=blob.key,
        echo=echo,
        shown=f"kubectl create secret generic {CREDENTIALS} -n {tools.namespace} "
        "--from-literal=accountKey=$ACCOUNT_KEY",
    )


def install(
    tools: Tools, values: Mapping[str, Any] | None = None, *, echo: Echo | None = None
) -> None:
    """helm install; with no values where there are none."""
    where = ("-n", tools.namespace, "--create-namespace")
    command = ("helm", "install", RELEASE, str(CHART), *where)
    shown = f"helm install {RELEASE} charts/ararat -n {tools.namespace}"
    if values is None:
        tools.run(*command, echo=echo, shown=f"{shown} --create-namespace", timeout=180.0)
        return
    tools.run(
        *command,
        "-f",
        "-",
        stdin=json.dumps(values),  # JSON is YAML
        echo=echo,
        shown=f"{shown} -f values.yaml",
        timeout=180.0,
    )


def upgrade(tools: Tools, values: Mapping[str, Any]) -> None:
    """helm upgrade to exactly these values; does not wait for the pods."""
    where = ("-n", tools.namespace)
    command = ("helm", "upgrade", RELEASE, str(CHART), *where, "--reset-values", "-f", "-")
    tools.run(*command, stdin=json.dumps(values), timeout=180.0)


def wait_until_ready(tools: Tools, *, location: str = "default", timeout: float = 180.0) -> None:
    """Wait for every pod of Ararat's, then for the location."""

    def pods_ready() -> bool:
        wanted = tools.items("daemonsets", namespace=tools.namespace)
        agents = all(
            d["status"].get("observedGeneration") == d["metadata"]["generation"]
            and d["status"].get("updatedNumberScheduled", 0)
            == d["status"].get("numberReady", 0)
            == d["status"]["desiredNumberScheduled"]
            > 0
            for d in wanted
        )
        deployments = tools.items("deployments", namespace=tools.namespace)
        controllers = all(
            d["status"].get("readyReplicas", 0) == d["spec"]["replicas"] for d in deployments
        )
        return bool(wanted and deployments) and agents and controllers

    eventually(
        pods_ready,
        what="Ararat's pods to be ready",
        timeout=timeout,
        seen=lambda: tools.kubectl("get", "pods", "-n", tools.namespace, "-o", "wide"),
    )
    wait_for_location(tools, location, phase="Available")


def wait_for_location(tools: Tools, name: str, *, phase: str, timeout: float = 60.0) -> Object:
    """Wait until a location has the phase; returns it."""

    def look() -> Object | None:
        found = tools.get("backuplocation", name, namespace=tools.namespace)
        reached = found is not None and found.get("status", {}).get("phase") == phase
        return found if reached else None

    return eventually(
        look,
        what=f"location {name} to be {phase}",
        timeout=timeout,
        seen=lambda: tools.kubectl("get", "backuplocations", "-n", tools.namespace),
    )
