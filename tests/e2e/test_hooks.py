"""Hooks in real containers: the volume is read while its pod is as the pre hook left it.

And, in the same backup, a claim that no pod mounts.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ararat.api.names import HELPER
from tests.e2e.support.tools import Tools
from tests.e2e.support.waiting import eventually
from tests.e2e.support.workload import Workload
from tests.e2e.test_round_trip import assert_completed

_POD, _CLAIM = "parts-0", "data-parts-0"


@pytest.mark.timeout(600)
def test_hooks_in_a_real_container(tools: Tools, new_workload: Callable[..., Workload]) -> None:
    app = new_workload("hooks")
    backup, where = f"{app.namespace}-quiet", ("-n", app.namespace)
    hooks = {
        "pre": "echo quiet > /data/quiet; echo what-it-said; sync",
        "post": "rm /data/quiet && echo gone > /tmp/let-go",
    }
    annotations = [
        f"{when}.hook.backup.ararat.dev/command={json.dumps(['sh', '-c', script])}"
        for when, script in hooks.items()
    ]
    tools.kubectl("annotate", "pod", _POD, *where, *annotations)
    # Beside it, a claim that no pod mounts any more.
    keep = ["sh", "-c", "echo kept > /data/kept"]
    tools.kubectl("exec", "deploy/files", *where, "--", *keep)
    tools.kubectl("scale", "deploy/files", *where, "--replicas=0")
    tools.kubectl("wait", "pod", "-l", "app=files", *where, "--for=delete", "--timeout=60s")
    what = ("--include-namespaces", app.namespace, "--include-unmounted-claims")
    tools.ararat("backup", "create", backup, *what)
    followed = tools.ararat("backup", "logs", backup, "-f", timeout=300.0).stdout
    tools.ararat("backup", "wait", backup)
    assert_completed(tools, "backup", backup)

    # It was quiet while it was read, and is so no more.
    read = tools.ararat("backup", "cat", backup, f"{app.namespace}/{_CLAIM}", "quiet").stdout
    assert read == "quiet\n"
    state = "test ! -e /data/quiet && cat /tmp/let-go"
    assert tools.kubectl("exec", _POD, *where, "--", "sh", "-c", state) == "gone\n"

    # What no pod mounted was read through a pod of ours, which is gone.
    assert "helper pod created" in followed, followed
    assert (
        tools.ararat("backup", "cat", backup, f"{app.namespace}/files", "kept").stdout == "kept\n"
    )
    eventually(
        lambda: not tools.items("pods", namespace=app.namespace, selector=HELPER),
        what="no helper pod is left",
        timeout=180,
    )

    for said in ("backup began", "pre hook ended", "post hook ended", "pod was let go"):
        assert said in followed, followed
    described = tools.ararat("backup", "describe", backup).stdout
    assert f"{app.namespace}/{_POD}" in described.partition("Hooks:\n")[2], described
    # Output is shown to whoever may exec into the controller, and to nobody else.
    assert "what-it-said" not in followed + described
    shown = tools.kubectl(
        "exec",
        "-n",
        tools.namespace,
        "deploy/ararat-controller",
        "--",
        *("python", "-m", "controller", "show", "hooks", backup),
    )
    assert "what-it-said" in shown
