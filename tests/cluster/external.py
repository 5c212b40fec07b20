"""A cluster that somebody else runs, with the same surface where that is possible.

Set ARARAT_E2E_KUBECONFIG to use one. KUBECONFIG alone is not enough: it may point at something
that matters, and the tests make and delete namespaces.
Limits: nothing there can be stopped, cut off or given an image; images must be in a registry that
it reaches, and ARARAT_E2E_GATEWAY has to name this machine as its pods reach it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.cluster.cluster import Cluster, run_kubectl
from tests.cluster.errors import ClusterError
from tests.cluster.images import Image

VARIABLE = "ARARAT_E2E_KUBECONFIG"
GATEWAY_VARIABLE = "ARARAT_E2E_GATEWAY"


class AnyNode(Protocol):
    """What every node has."""

    @property
    def name(self) -> str: ...


class AnyCluster(Protocol):
    """What tests may use wherever the cluster runs."""

    @property
    def kubeconfig(self) -> Path: ...

    @property
    def nodes(self) -> Sequence[AnyNode]: ...

    @property
    def gateway_ip(self) -> str: ...

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str: ...

    def load_image(self, image: Image) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class ExternalNode:
    """A node of which only the name is known."""

    name: str


class ExternalCluster:
    """The cluster of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig that was given."""
        return self._kubeconfig

    @property
    def nodes(self) -> tuple[ExternalNode, ...]:
        """The nodes there are now."""
        names = self.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
        return tuple(ExternalNode(name) for name in sorted(names.split()))

    @property
    def gateway_ip(self) -> str:
        """This machine, as the cluster's pods reach it."""
        address = os.environ.get(GATEWAY_VARIABLE)
        if not address:
            raise ClusterError(
                f"set {GATEWAY_VARIABLE} to this machine's address as the cluster's pods reach it"
            )
        return address

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run kubectl and return its output."""
        return run_kubectl(self._kubeconfig, arguments, stdin=stdin, timeout=timeout)

    def load_image(self, image: Image) -> None:
        """Not possible; raises ClusterError with what to do instead."""
        raise ClusterError(
            f"{image.reference} cannot be loaded into a cluster that {VARIABLE} names; "
            "push it to a registry that the cluster reaches"
        )

    def stop(self) -> None:
        """Does nothing: it is not ours."""


def any_cluster(name: str = "e2e", *, nodes: int = 2) -> AnyCluster:
    """The external cluster if one is set, else a started local one; `stop` suits both."""
    kubeconfig = os.environ.get(VARIABLE)
    if kubeconfig:
        return ExternalCluster(Path(kubeconfig))
    return Cluster(name, nodes=nodes).start()
