"""The two clusters of the demo, the emulator of Blob Storage, and the images, kept and cleaned up.

Decision: the second cluster is started beside the story of the first, because starting it is mostly
waiting. Everything that was started is stopped on the way out, whatever happened.
Limits: the emulator keeps its data in a temporary directory and goes with the demo.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from tests.cluster.azurite import Azurite
from tests.cluster.builder import build_image
from tests.cluster.cluster import Cluster
from tests.cluster.images import Image
from tests.demo.site import WORKLOADS
from tests.demo.terminal import Narrator
from tests.e2e.support import ground, seeds
from tests.e2e.support.install import Blob
from tests.e2e.support.tools import Tools

_FIRST, _SECOND = "demo-1", "demo-2"


class Clusters:
    """Both clusters and what they share; use it as a context manager."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._cleanup = contextlib.ExitStack()
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._images: dict[str, Image] = {}
        self._second: Future[Cluster] | None = None
        self.work = Path(tempfile.mkdtemp(prefix="ararat-demo-"))
        self.first = Cluster(_FIRST, nodes=2, leashed=not keep)
        self.azurite: Azurite | None = None

    def build_images(self) -> None:
        """Build what is not in the cache; minutes at the first time, a second afterwards."""
        self._images = {**ground.product_images(), **_site_images()}

    def start_first(self) -> Tools:
        """The cluster in which the site lives."""
        self._stop_at_exit(self.first)
        self.first.start()
        seeds.load(self.first, self._images)
        return Tools(self.first.kubeconfig)

    def start_blob(self, container: str) -> Blob:
        """Blob Storage, which outlives the namespace and is seen by both clusters."""
        self.azurite = Azurite(self.first.gateway_ip, directory=self.work / "azurite")
        if not self._keep:
            self._cleanup.callback(self.azurite.stop)
        self.azurite.start()
        return ground.blob(self.azurite, container)

    def begin_second(self) -> None:
        """Start the other cluster beside what goes on."""
        self._second = self._pool.submit(self._start_second)

    def second(self) -> Tools:
        """The other cluster, as soon as it is ready."""
        assert self._second is not None
        return Tools(self._second.result(timeout=300).kubeconfig)

    def describe(self, tell: Narrator) -> None:
        """Say how to go on with kept clusters."""
        for name in (_FIRST, _SECOND):
            if name in Cluster.names():
                tell.say(f"{name}: export KUBECONFIG={Cluster(name).kubeconfig}")
        tell.say("Take them down with: python -m tests.cluster down --all")

    def _start_second(self) -> Cluster:
        cluster = Cluster(_SECOND, nodes=1, leashed=not self._keep)
        self._stop_at_exit(cluster)
        cluster.start()
        # Its pods reach the emulator at the address that the first cluster's pods use. Straight
        # from each node: answers come straight back, and a detour would look like a broken flow.
        for node in cluster.nodes:
            node.keeper.run_net(
                f"ip route replace {self.first.gateway_ip} via {cluster.gateway_ip}"
            )
        seeds.load(cluster, self._images)
        return cluster

    def _stop_at_exit(self, cluster: Cluster) -> None:
        if not self._keep:
            self._cleanup.callback(cluster.stop)

    def __enter__(self) -> Clusters:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A cluster that is just being started is stopped after it has started.
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._cleanup.close()
        if not self._keep:
            shutil.rmtree(self.work, ignore_errors=True)


def _site_images() -> dict[str, Image]:
    return {
        f"ararat-demo/{name}:1": build_image(
            WORKLOADS / f"Dockerfile.{name}", name=f"demo-{name}", context=WORKLOADS
        )
        for name in ("mariadb", "wordpress")
    }
