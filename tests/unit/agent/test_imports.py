"""An agent is on every node: what it does not need before a job comes is not loaded before."""

from __future__ import annotations

import subprocess
import sys

#: SDKs, and clients with a model for every kind of Kubernetes.
HEAVY = (
    *("azure", "cryptography", "msal", "kubernetes.client", "requests", "typer", "ararat.cli"),
    *("yaml", "dateutil"),
)


def test_nothing_heavy_is_loaded_at_the_start() -> None:
    program = "import sys, agent.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert "agent.app" in loaded
    assert not loaded & set(HEAVY)
