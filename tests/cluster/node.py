"""One node: namespaces of its own, containerd, kubelet and kube-proxy in them.

Problem: kubelets expect a machine each; two on one machine remove each other's pods and logs.
Decision: a node sees this machine's files, but /var/lib, /var/cache, /var/log and /run are its own,
and so are its hostname, network, process ids and cgroup root. Every node then has the standard
/var/lib/kubelet, and one DaemonSet fits all. `/var/lib/ararat` and the volumes lie in directories
that all nodes of one cluster share.
Limits: pods cannot see another node's processes; the disk underneath is one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import cgroups, dns
from tests.cluster.apiserver import ControlPlane, feature_gates, minor_version
from tests.cluster.errors import ClusterError
from tests.cluster.images import Image, pause_image
from tests.cluster.namespaces import Keeper, name_resolution
from tests.cluster.network import Network
from tests.cluster.process import Service
from tests.cluster.toolchain import kubernetes

_SOCKET = "/run/containerd/containerd.sock"
_CNI_PROGRAMS = "/usr/lib/cni"
_PROXY_TIMEOUT = 60.0
#: In place of runc: as long as the file lies there, containers are made and none starts.
_RUNC = """#!/bin/sh
hold={hold}
if [ -e "$hold" ]; then
    previous= bundle=
    for argument; do
        [ "$previous" = --bundle ] && bundle=$argument
        previous=$argument
    done
    if [ -n "$bundle" ] && grep -q 'cri.container-type": *"container"' "$bundle/config.json"; then
        while [ -e "$hold" ]; do sleep 0.05; done
    fi
fi
exec runc "$@"
"""
_FREEZE = """
each() {{
    for process in /proc/[0-9]*; do
        [ "$(cat $process/comm 2>/dev/null)" = {name} ] || continue
        case "$(readlink $process/cwd)" in *{below}*) kill -$1 ${{process#/proc/}};; esac
    done
}}
while [ ! -e {ended} ]; do each STOP; sleep 0.02; done
each CONT
"""
# The kubelet takes its runtime from flags before, and from its configuration file since.
_RUNTIME_IN_FILE = 27


@dataclass(frozen=True)
class NodePlan:
    """What a node is told about itself and its cluster."""

    cluster: str
    name: str
    number: int
    directory: Path
    shared: Path
    network: Network

    @property
    def address(self) -> str:
        """The node's InternalIP."""
        return self.network.node(self.number)

    @property
    def cgroup_root(self) -> str:
        """The kubelet's cgroupRoot."""
        return f"/{cgroups.top(self.cluster)}/{self.name}"


class Node:
    """A node of the cluster and the programs that run on it."""

    def __init__(self, plan: NodePlan, *, cluster: Keeper, control_plane: ControlPlane) -> None:
        self.plan = plan
        self.name = plan.name
        self.address = plan.address
        self._cluster = cluster
        self._control_plane = control_plane
        self.keeper = Keeper(plan.directory, setup=_mounts(plan), parent=cluster)

    @functools.cached_property
    def containerd(self) -> Service:
        """The container runtime; stopping it leaves containers running."""
        return self._service(
            "containerd", ["containerd", "--config", str(self.plan.directory / "containerd.toml")]
        )

    @functools.cached_property
    def kubelet(self) -> Service:
        """The kubelet; stopping it leaves containers running."""
        command = [
            str(kubernetes.ensure() / "kubelet"),
            f"--config={self.plan.directory / 'kubelet.json'}",
            f"--kubeconfig={self._control_plane.directory / f'node-{self.name}.kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            f"--cert-dir={self.plan.directory}",
        ]
        if minor_version() < _RUNTIME_IN_FILE:
            command += [
                "--container-runtime=remote",
                f"--container-runtime-endpoint=unix://{_SOCKET}",
            ]
        return self._service("kubelet", command)

    @functools.cached_property
    def proxy(self) -> Service:
        """The kube-proxy of this node."""
        return proxy_service(
            self.name,
            address=self.address,
            directory=self.plan.directory,
            keeper=self.keeper,
            network=self.plan.network,
            control_plane=self._control_plane,
        )

    def prepare(self) -> None:
        """Make the node's namespaces and start its container runtime."""
        self._write_files()
        cgroups.create(self.plan.cluster, node=self.name)
        self.keeper.start()
        self.plan.network.connect_node(self.plan.number, cluster=self._cluster, node=self.keeper)
        self.start_containerd()
        self.load_image(pause_image())

    def start_containerd(self) -> None:
        """Start the container runtime and wait until it answers."""
        self.containerd.start()
        self.containerd.wait_until(
            self._containerd_answers, timeout=30.0, what="answer on its socket"
        )

    def join(self) -> None:
        """Start kubelet and kube-proxy."""
        pair = self._control_plane.issue_node(self.name, address=self.address)
        (self.plan.directory / "kubelet.json").write_text(
            json.dumps(
                _kubelet_configuration(
                    self.plan,
                    ca=self._control_plane.ca.certificate,
                    certificate=pair.certificate,
                    key=pair.key,
                )
            )
        )
        self.proxy.start()
        self.kubelet.start()

    def ready(self) -> bool:
        """Whether the API server holds it for ready."""
        return self.name in {
            node["metadata"]["name"]
            for node in self._control_plane.api.items("/api/v1/nodes")
            for condition in node["status"].get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        }

    def load_image(self, image: Image) -> None:
        """Put an image into the node's containerd; does nothing if it is there."""
        marker = self.plan.directory / "images" / image.key
        if marker.exists():
            return
        self.run("ctr", "-n", "k8s.io", "images", "import", str(image.archive))
        marker.parent.mkdir(exist_ok=True)
        marker.touch()

    def run(self, *argv: str, stdin: bytes | None = None, timeout: float = 600.0) -> str:
        """Run a command as on the node itself (its mounts, network and processes)."""
        return self.keeper.run(*argv, stdin=stdin, timeout=timeout)

    def cut(self) -> None:
        """Pull the node's network cable; everything on it goes on running."""
        self.plan.network.cut_node(self.plan.number, cluster=self._cluster)

    def mend(self) -> None:
        """Plug the node's network cable in again."""
        self.plan.network.mend_node(self.plan.number, cluster=self._cluster)

    @contextlib.contextmanager
    def holding_starts(self) -> Iterator[None]:
        """While the block runs, containers are made on this node and none starts."""
        hold = self.plan.directory / "hold"
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    @contextlib.contextmanager
    def freezing(self, program: str, *, below: str) -> Iterator[None]:
        """While the block runs, each process of that name whose working directory has *below* in
        its path stands still from the moment that it is seen; one that is alive then goes on."""
        ended = self.plan.directory / "thaw"
        script = _FREEZE.format(ended=shlex.quote(str(ended)), name=program, below=below)

        def freeze() -> None:
            with contextlib.suppress(ClusterError):  # the node may crash meanwhile
                self.run("sh", "-c", script)

        worker = threading.Thread(target=freeze)
        worker.start()
        try:
            yield
        finally:
            ended.touch()
            worker.join()
            ended.unlink()

    def containers(self) -> set[str]:
        """The ids of all containers that were made on it, sandboxes aside."""
        made = self.plan.directory / "var/lib/containerd/io.containerd.grpc.v1.cri/containers"
        return {status.parent.name for status in made.glob("*/status")}

    def crash(self) -> None:
        """Kill everything on the node at once, as a power cut would."""
        self.keeper.kill()

    def boot(self) -> None:
        """Start a crashed node again, with the disk as it was."""
        self.prepare()
        self.join()

    def _service(self, name: str, command: list[str]) -> Service:
        return Service(
            name,
            directory=self.plan.directory,
            command=command,
            enter=self.keeper.enter,
            # The kubelet looks for a cloud's metadata service, and waits seconds for it.
            env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
        )

    def _containerd_answers(self) -> bool:
        try:
            self.run("ctr", "version")
        except ClusterError:
            return False
        return True

    def _write_files(self) -> None:
        directory = self.plan.directory
        for name in (*_OWN_DIRECTORIES, *_shared_mounts(self.plan)):
            (directory / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for source in _shared_mounts(self.plan).values():
            source.mkdir(parents=True, exist_ok=True)
        (directory / "resolv.conf").write_text("")
        (directory / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        (directory / "containerd.toml").write_text(_containerd_configuration(self.plan))
        runc = directory / "runc"
        runc.write_text(_RUNC.format(hold=shlex.quote(str(directory / "hold"))))
        runc.chmod(0o755)
        cni = directory / "cni"
        cni.mkdir(exist_ok=True)
        (cni / "ararat.conflist").write_text(json.dumps(_cni_configuration(self.plan)))


_OWN_DIRECTORIES = ("var/lib/kubelet", "var/cache", "var/log/pods", "var/log/containers")


def _shared_mounts(plan: NodePlan) -> dict[str, Path]:
    return {
        "/var/lib/ararat": plan.shared / "ararat",
        "/var/lib/volumes": plan.shared / "volumes",
    }


def _mounts(plan: NodePlan) -> str:
    """The shell script that gives a node its own directories.

    HostToContainer propagation works only from a shared tree, and unshare made it private; it is
    shared last, so that no bind mount shows its mounts a second time where it was bound from.
    """
    own = plan.directory
    lines = [
        f"hostname {shlex.quote(plan.name)}",
        f"mount --bind {shlex.quote(str(own / 'var/lib'))} /var/lib",
        f"mount --bind {shlex.quote(str(own / 'var/cache'))} /var/cache",
        f"mount --bind {shlex.quote(str(own / 'var/log'))} /var/log",
        "mount -t tmpfs -o mode=755 tmpfs /run",
        "mkdir -p /run/netns /run/lock",
    ]
    lines.append(name_resolution(resolver=own / "resolv.conf", hosts=own / "hosts"))
    for target, source in _shared_mounts(plan).items():
        lines.append(f"mount --bind {shlex.quote(str(source))} {target}")
    lines.append("mount --make-rshared /")
    return "\n".join(lines)


def _containerd_configuration(plan: NodePlan) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{_SOCKET}"
[{cri}]
  sandbox_image = "{pause_image().reference}"
  # Without CAP_SYS_RESOURCE runc cannot lower a score and dies.
  restrict_oom_score_adj = true
[{cri}.cni]
  bin_dir = "{_CNI_PROGRAMS}"
  conf_dir = "{plan.directory / "cni"}"
[{cri}.containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
  BinaryName = "{plan.directory / "runc"}"
"""


def _cni_configuration(plan: NodePlan) -> dict[str, Any]:
    return {
        "cniVersion": "0.4.0",
        "name": "ararat",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isDefaultGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": plan.network.node_pods(plan.number)}]],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet_configuration(
    plan: NodePlan, *, ca: Path, certificate: Path, key: Path
) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plan.address,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": plan.cgroup_root,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "syncFrequency": "1s",
        "nodeStatusUpdateFrequency": "2s",
        # Without this it would also tell every 2 s that nothing changed.
        "nodeStatusReportFrequency": "10s",
        "nodeLeaseDurationSeconds": 20,
        "clusterDNS": [plan.network.control_plane],
        "clusterDomain": dns.DOMAIN,
        "resolvConf": str(plan.directory / "resolv.conf"),
        "featureGates": {},
    }
    if feature_gates():
        configuration["featureGates"]["GenericEphemeralVolume"] = True
    if minor_version() < _RUNTIME_IN_FILE:
        configuration["featureGates"]["LocalStorageCapacityIsolation"] = False
    else:
        configuration["containerRuntimeEndpoint"] = f"unix://{_SOCKET}"
        configuration["failCgroupV1"] = False
        configuration["localStorageCapacityIsolation"] = False
    return configuration


def wait_for_proxy(service: Service, *, keeper: Keeper) -> None:
    """Wait until the ClusterIP of the API server works from the proxy's network namespace."""

    def programmed() -> bool:
        try:
            rules = keeper.run("iptables", "-w", "-t", "nat", "-S", "KUBE-SERVICES")
        except ClusterError:
            return False
        return "default/kubernetes:https" in rules

    service.wait_until(programmed, timeout=_PROXY_TIMEOUT, what="rules for services")


def proxy_service(
    name: str,
    *,
    address: str,
    directory: Path,
    keeper: Keeper,
    network: Network,
    control_plane: ControlPlane,
) -> Service:
    """The kube-proxy of one network namespace; it makes ClusterIPs work from there."""
    return Service(
        "kube-proxy",
        directory=directory,
        command=[
            str(kubernetes.ensure() / "kube-proxy"),
            f"--kubeconfig={control_plane.directory / 'proxy.kubeconfig'}",
            f"--hostname-override={name}",
            # Else it asks for its Node object, and waits ever longer while there is none.
            f"--bind-address={address}",
            f"--cluster-cidr={network.pods}",
            "--proxy-mode=iptables",
            "--iptables-min-sync-period=100ms",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249",
        ],
        enter=keeper.enter,
    )
