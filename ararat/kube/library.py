"""The parts of the official Kubernetes client that we use, without the rest of it.

Problem: ``import kubernetes`` brings the synchronous client, its dynamic one, requests, OAuth
and a JSON schema validator: 18 MiB in every agent of every node, none of it ever called.
Decision: while our few modules are imported, the packages above them are stood in for by empty
ones, so that their ``__init__`` does not run. The stand-ins are taken away at once: whoever
imports ``kubernetes`` later gets all of it. What reads kubeconfigs (YAML, dates, logins of clouds)
is imported by who has one, which no pod does.
Limits: if a release moves what is imported here, the import fails, and so does every test.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any


@contextmanager
def _alone() -> Iterator[None]:
    """Submodules can be imported inside, and nothing else of the package is."""
    found = importlib.util.find_spec("kubernetes")
    assert found is not None
    assert found.origin is not None
    root = Path(found.origin).parent
    made = []
    for name in ("kubernetes", "kubernetes.aio", "kubernetes.aio.config", "kubernetes.aio.utils"):
        path = root.joinpath(*name.split(".")[1:])
        if name not in sys.modules:
            module = ModuleType(name)
            module.__path__ = [str(path)]
            sys.modules[name] = module
            made.append(name)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


with _alone():
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.client.rest import RESTClientObject
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.incluster_config import (
        SERVICE_CERT_FILENAME,
        SERVICE_HOST_ENV_NAME,
        SERVICE_TOKEN_FILENAME,
        InClusterConfigLoader,
    )


def kubeconfig_loader() -> Any:
    """``load_kube_config`` of the library."""
    with _alone():
        from kubernetes.aio.config.kube_config import load_kube_config
    return load_kube_config


__all__ = [
    "SERVICE_CERT_FILENAME",
    "SERVICE_HOST_ENV_NAME",
    "SERVICE_TOKEN_FILENAME",
    "ConfigException",
    "Configuration",
    "InClusterConfigLoader",
    "RESTClientObject",
    "kubeconfig_loader",
]
