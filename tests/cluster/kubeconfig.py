"""Kubeconfig files, self-contained: certificates inline, so that a file can be copied away.

Written as JSON, which every reader of kubeconfig files takes as the YAML it also is.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.cluster.certs import KeyPair


def write(path: Path, *, server: str, ca: Path, client: KeyPair) -> Path:
    """Write a kubeconfig for *server* that logs in as *client*."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "ararat",
                "cluster": {"server": server, "certificate-authority-data": _encoded(ca)},
            }
        ],
        "users": [
            {
                "name": "ararat",
                "user": {
                    "client-certificate-data": _encoded(client.certificate),
                    "client-key-data": _encoded(client.key),
                },
            }
        ],
        "contexts": [{"name": "ararat", "context": {"cluster": "ararat", "user": "ararat"}}],
        "current-context": "ararat",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
