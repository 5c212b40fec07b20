"""The node jobs of one backup or restore."""

from __future__ import annotations

from tests.e2e.support.tools import Object, Tools


def reads(tools: Tools, backup: str) -> list[Object]:
    """Those of a backup."""
    found = tools.items("podvolumebackups.ararat.dev", namespace=tools.namespace)
    return [job for job in found if job["spec"]["backup"] == backup]


def fills(tools: Tools, restore: str) -> list[Object]:
    """Those of a restore that write."""
    found = tools.items("podvolumerestores.ararat.dev", namespace=tools.namespace)
    return [
        job for job in found if job["spec"]["restore"] == restore and job["spec"]["role"] == "Fill"
    ]
