"""Everything a person wants to see when a test on a cluster failed.

Logs and descriptions are collected by the same kubectl a user has; nothing here raises, because it
runs when something is broken already.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator

from tests.e2e.support.tools import CommandFailed, Object, Tools

_RESOURCES = "backuplocations,repositories,backups,podvolumebackups,restores,podvolumerestores"
_LOG_LINES = 200


def dump(tools: Tools, namespaces: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Titles and texts: nodes, events, pods and logs of the namespaces, Ararat's own objects."""
    yield "nodes", _try(tools, "get", "nodes", "-o", "wide")
    yield (
        "Ararat's objects",
        _try(tools, "get", _RESOURCES, "-n", tools.namespace, "-o", "yaml"),
    )
    for namespace in dict.fromkeys((tools.namespace, *namespaces)):
        yield (
            f"{namespace}: pods and claims",
            _try(tools, "get", "pods,pvc,deployments,statefulsets", "-n", namespace, "-o", "wide"),
        )
        yield (
            f"{namespace}: events",
            _try(tools, "get", "events", "-n", namespace, "--sort-by=.lastTimestamp"),
        )
        yield from _logs(tools, namespace)


def _logs(tools: Tools, namespace: str) -> Iterator[tuple[str, str]]:
    try:
        pods = tools.items("pods", namespace=namespace)
    except (CommandFailed, OSError, ValueError, subprocess.SubprocessError):
        return
    for pod in pods:
        name = pod["metadata"]["name"]
        for container, restarted in _containers(pod):
            where = ("-n", namespace, name, "-c", container, f"--tail={_LOG_LINES}")
            yield f"{namespace}/{name}: log of {container}", _try(tools, "logs", *where)
            if restarted:
                yield (
                    f"{namespace}/{name}: log of {container} before its restart",
                    _try(tools, "logs", "--previous", *where),
                )


def _containers(pod: Object) -> Iterator[tuple[str, bool]]:
    for key in ("initContainerStatuses", "containerStatuses"):
        for status in pod.get("status", {}).get(key) or []:
            if "waiting" not in status["state"] or status["restartCount"]:
                yield status["name"], bool(status["restartCount"])


def _try(tools: Tools, *arguments: str) -> str:
    try:
        outcome = tools.run("kubectl", *arguments, timeout=20.0, check=False)
    except OSError as error:
        return str(error)
    return outcome.said
