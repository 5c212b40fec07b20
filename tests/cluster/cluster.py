"""A whole Kubernetes cluster on this machine, in one process tree.

Problem: the product is about kubelets' directories, mounts, webhooks and lost nodes; only a real
cluster of at least two nodes shows whether it works, and there is neither Docker nor a registry.
Decision: the programs of a cluster run as plain processes inside namespaces that one keeper holds
(`namespaces.py`); what has to survive a crash of the harness is the cluster's directory in the
cache, by which any process can find the cluster again and take it down.
Limits: needs root, cgroup v1 and the toolchain; nothing in it reaches beyond this machine.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster import cgroups, provisioner
from tests.cluster.api import ApiClient
from tests.cluster.apiserver import ControlPlane, Placement
from tests.cluster.errors import ClusterError
from tests.cluster.images import Image
from tests.cluster.namespaces import Keeper
from tests.cluster.network import MAX_CLUSTERS, MAX_NODES, Network, links_in_use
from tests.cluster.node import Node, NodePlan, proxy_service, wait_for_proxy
from tests.cluster.process import Service, run
from tests.cluster.toolchain import cache_root, kubectl, kubernetes, system
from tests.cluster.toolchain.cache import lock

_NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,30}")
_HIDDEN_ON_NODES = ("/var/lib", "/var/cache", "/var/log", "/run", "/var/run")
_NODES_READY_TIMEOUT = 90.0
_API_PORT = 6443


class Cluster:
    """A cluster by name: made by `start`, found again by its name, gone after `stop`."""

    def __init__(self, name: str = "test", *, nodes: int = 2, leashed: bool = True) -> None:
        """Take up the cluster *name*, or lay down where a new one will be.

        A *leashed* cluster dies with the process that started it.
        """
        if not _NAME_PATTERN.fullmatch(name):
            raise ClusterError(f"'{name}' cannot name a cluster: use a-z, 0-9 and '-', at most 31")
        if not 1 <= nodes <= MAX_NODES:
            raise ClusterError(f"a cluster has 1 to {MAX_NODES} nodes, not {nodes}")
        self.name = name
        self.directory = _clusters() / name
        self.network = _reserve(self.directory, nodes=nodes)
        self.keeper = Keeper(
            self.directory,
            setup=f"hostname {name}\nmount -t tmpfs -o mode=755 tmpfs /run",
            leashed=leashed,
        )

    @staticmethod
    def names() -> list[str]:
        """The clusters that exist on this machine, running or left over."""
        return sorted(path.parent.name for path in _clusters().glob("*/plan.json"))

    @property
    def running(self) -> bool:
        """Whether its namespaces are there."""
        return self.keeper.alive

    @functools.cached_property
    def control_plane(self) -> ControlPlane:
        """etcd, API server, controllers and scheduler."""
        return ControlPlane(
            self.directory / "control-plane",
            placement=Placement(
                address=self.network.control_plane,
                apiserver_port=_API_PORT,
                enter=self.keeper.enter,
                service_cidr=self.network.services,
                cluster=True,
                leashed=False,
            ),
        )

    @functools.cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, `node-1` first."""
        return tuple(
            Node(
                NodePlan(
                    cluster=self.name,
                    name=f"node-{number + 1}",
                    number=number,
                    directory=self.directory / "nodes" / f"node-{number + 1}",
                    shared=self.shared,
                    network=self.network,
                ),
                cluster=self.keeper,
                control_plane=self.control_plane,
            )
            for number in range(self.network.nodes)
        )

    @property
    def apiserver(self) -> Service:
        """The API server's process; see also `stop_apiserver`."""
        return self.control_plane.apiserver

    @property
    def api(self) -> ApiClient:
        """A small client with an administrator's rights."""
        return self.control_plane.api

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of an administrator."""
        return self.directory / "control-plane" / "admin.kubeconfig"

    @property
    def gateway_ip(self) -> str:
        """This machine's address as pods and nodes reach it: listen there with an emulator."""
        return self.network.gateway

    @property
    def shared(self) -> Path:
        """What all nodes share: `ararat` is their /var/lib/ararat, `volumes` holds the claims."""
        return self.directory / "shared"

    @property
    def provisioner(self) -> Service:
        """The process that answers claims."""
        return self._module("provisioner", f"--directory={self.shared / 'volumes'}")

    @property
    def dns(self) -> Service:
        """The process that answers names."""
        return self._module(
            "dns", f"--address={self.network.control_plane}", f"--machine={self.gateway_ip}"
        )

    def start(self) -> Cluster:
        """Start and wait until every node is ready; a running cluster is left as it is."""
        _check_machine(self.directory)
        system.ensure()
        kubernetes.ensure()
        with lock(f"cluster-{self.name}"):
            if self.running and self._whole():
                return self
            self._clear()
            self.network = _reserve(self.directory, nodes=self.network.nodes)
            try:
                self._start()
            except BaseException:
                self._clear(keep_logs=True)
                raise
        return self

    def stop(self) -> None:
        """Stop everything and leave nothing behind; a cluster that is gone is no error."""
        with lock(f"cluster-{self.name}"):
            self._clear()

    def stop_apiserver(self) -> None:
        """Take the API server away; everything else goes on."""
        self.control_plane.stop_apiserver()

    def start_apiserver(self) -> None:
        """Bring the API server back on the same address."""
        self.control_plane.start_apiserver()

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run kubectl as an administrator and return its output."""
        return run_kubectl(self.kubeconfig, arguments, stdin=stdin, timeout=timeout)

    def load_image(self, image: Image) -> None:
        """Put an image into every node's containerd."""
        self._on_nodes(lambda node: node.load_image(image))

    def user(self, name: str, *, groups: tuple[str, ...] = ()) -> Path:
        """A kubeconfig for another user, whose rights are up to RBAC."""
        return self.control_plane.user(name, groups=groups)

    def node(self, name: str) -> Node:
        """The node *name*."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(f"cluster {self.name} has no node {name}")

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.keeper.start()
        self.network.connect_machine(self.keeper)
        with ThreadPoolExecutor() as pool:
            prepared = pool.submit(self._on_nodes, Node.prepare)
            self.control_plane.start()
            prepared.result()
        self._on_nodes(Node.join)
        self.proxy.start()
        provisioner.create_classes(self.api)
        self.provisioner.start()
        self.dns.start()
        self._wait_for_nodes()
        wait_for_proxy(self.proxy, keeper=self.keeper)
        self._on_nodes(lambda node: wait_for_proxy(node.proxy, keeper=node.keeper))
        self._wait_for_default_account()
        (self.directory / "complete").touch()

    def _whole(self) -> bool:
        return (self.directory / "complete").exists()

    def _module(self, name: str, *arguments: str) -> Service:
        root = Path(__file__).parents[2]
        module = f"tests.cluster.{name}"
        return Service(
            name,
            directory=self.directory,
            command=[sys.executable, "-m", module, f"--kubeconfig={self.kubeconfig}", *arguments],
            enter=self.keeper.enter,
            env={**os.environ, "PYTHONPATH": str(root)},
        )

    @functools.cached_property
    def proxy(self) -> Service:
        """The kube-proxy of the control plane, and so of this machine."""
        return proxy_service(
            self.name,
            address=self.network.control_plane,
            directory=self.directory,
            keeper=self.keeper,
            network=self.network,
            control_plane=self.control_plane,
        )

    def _on_nodes(self, act: Callable[[Node], None]) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(act, self.nodes))

    def _wait_for_nodes(self) -> None:
        for node in self.nodes:
            node.kubelet.wait_until(
                node.ready, timeout=_NODES_READY_TIMEOUT, what=f"readiness of {node.name}"
            )

    def _wait_for_default_account(self) -> None:
        path = "/api/v1/namespaces/default/serviceaccounts"
        self.control_plane.controllers.wait_until(
            lambda: bool(self.api.items(path)), timeout=30.0, what="default service account"
        )

    def _clear(self, *, keep_logs: bool = False) -> None:
        """Kill the keeper, and with it everything in its namespaces; then remove the rest."""
        self.keeper.kill()
        self.network.disconnect_machine()
        cgroups.remove(self.name)
        if keep_logs:
            _keep_logs(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)
        for name in ("control_plane", "nodes", "proxy"):
            self.__dict__.pop(name, None)


def run_kubectl(
    kubeconfig: Path, arguments: tuple[str, ...], *, stdin: str | None, timeout: float
) -> str:
    """Run kubectl with *kubeconfig*."""
    # A server of 1.20 speaks SPDY for exec and port-forward.
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(cache_root() / "kubectl"),
        "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false",
        "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false",
    }
    return run(
        [str(kubectl.ensure().kubectl), *arguments],
        stdin=None if stdin is None else stdin.encode(),
        env=environment,
        timeout=timeout,
    )


def _clusters() -> Path:
    directory = cache_root() / "clusters"
    directory.mkdir(exist_ok=True)
    return directory


def _check_machine(directory: Path) -> None:
    if os.geteuid() != 0:
        raise ClusterError("a local cluster needs root; set KUBECONFIG to test on another")
    for hidden in _HIDDEN_ON_NODES:
        if directory.is_relative_to(hidden):
            raise ClusterError(
                f"the cache lies below {hidden}, which every node has of its own; "
                "set ARARAT_CACHE to another directory"
            )


def _reserve(directory: Path, *, nodes: int) -> Network:
    """The cluster's addresses: those it has, else the first free ones.

    Clusters of another cache show by their interfaces on this machine.
    """
    plan = directory / "plan.json"
    with (_clusters() / ".reserve").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        taken = {path: json.loads(path.read_text()) for path in _clusters().glob("*/plan.json")}
        if plan in taken:
            return Network(**taken[plan])
        used = {found["index"] for found in taken.values()} | links_in_use()
        free = [index for index in range(MAX_CLUSTERS) if index not in used]
        if not free:
            raise ClusterError(
                f"{MAX_CLUSTERS} clusters exist on this machine; take one down first"
            )
        network = Network(index=free[0], nodes=nodes)
        directory.mkdir(parents=True, exist_ok=True)
        plan.write_text(json.dumps({"index": network.index, "nodes": network.nodes}))
    return network


def _keep_logs(directory: Path) -> None:
    kept = cache_root() / "logs" / f"cluster-{directory.name}"
    shutil.rmtree(kept, ignore_errors=True)
    for log in directory.rglob("*.log"):
        if "shared" not in log.parts and "var" not in log.parts:
            target = kept / log.relative_to(directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, target)
