"""Addresses of a cluster, and the wires between its nodes and this machine.

Problem: several clusters run side by side, on machines whose own networks are unknown; tests reach
pods and services, pods reach an emulator of the tests, and nothing may be left behind.
Decision: all addresses come from 198.18.0.0/15, reserved for benchmarks and so on nobody's LAN.
The cluster's namespace is the switch (bridge br0) and the control plane's host; each node hangs on
it by a veth, and so does this machine, whose end (`ararat<index>`) is all that is visible here.

    this machine 198.18.N.1 -- br0 198.18.N.2 (control plane) -- nodes 198.18.N.11, .12, ...
    pods 198.19.(8N+i).0/24 on node i           services 198.18.(128+N).0/24

Limits: 31 clusters of at most 8 nodes; IPv4 only. Pods cannot leave the machine.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.errors import ClusterError
from tests.cluster.namespaces import Keeper
from tests.cluster.process import run

MAX_CLUSTERS: Final = 31
MAX_NODES: Final = 8
_LINK: Final = "ararat"


def links_in_use() -> set[int]:
    """The numbers of the clusters that have an interface on this machine, whoever started them."""
    found = (path.name.removeprefix(_LINK) for path in Path("/sys/class/net").glob(f"{_LINK}*"))
    return {int(number) for number in found if number.isdecimal()}


@dataclass(frozen=True)
class Network:
    """The addresses of cluster number *index*."""

    index: int
    nodes: int

    @property
    def link(self) -> str:
        """This machine's interface into the cluster."""
        return f"{_LINK}{self.index}"

    @property
    def gateway(self) -> str:
        """This machine, as nodes and pods see it."""
        return f"198.18.{self.index}.1"

    @property
    def control_plane(self) -> str:
        """The API server's address."""
        return f"198.18.{self.index}.2"

    @property
    def services(self) -> str:
        """The range of ClusterIPs."""
        return f"198.18.{128 + self.index}.0/24"

    @property
    def pods(self) -> str:
        """The range of all pods of the cluster."""
        return f"198.19.{8 * self.index}.0/21"

    def node(self, number: int) -> str:
        """The address of a node; the first is number 0."""
        return f"198.18.{self.index}.{11 + number}"

    def node_pods(self, number: int) -> str:
        """The range of the pods on a node."""
        return f"198.19.{8 * self.index + number}.0/24"

    def pod_routes(self, *, without: int | None = None) -> str:
        """The shell commands that route to the pods of every node (but one)."""
        return "\n".join(
            f"ip route replace {self.node_pods(number)} via {self.node(number)}"
            for number in range(self.nodes)
            if number != without
        )

    def connect_machine(self, cluster: Keeper) -> None:
        """Make the switch and plug this machine into it."""
        self.disconnect_machine()
        run(
            [
                *("ip", "link", "add", self.link, "type", "veth"),
                *("peer", "name", "up0", "netns", str(cluster.pid)),
            ]
        )
        cluster.run_net(
            "ip link set lo up\n"
            # A bridge's own address changes with its ports, and its neighbours would not know.
            f"ip link add br0 address {self._mac(2)} type bridge\n"
            f"ip addr add {self.control_plane}/24 dev br0\n"
            "ip link set up0 master br0\n"
            "ip link set up0 up\n"
            "ip link set br0 up\n"
            "echo 1 > /proc/sys/net/ipv4/ip_forward\n"
            "echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects\n"
            "echo 0 > /proc/sys/net/ipv4/conf/br0/send_redirects\n"
            # Frames between nodes pass the switch; they are none of this namespace's iptables.
            "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables\n"
            f"ip route replace {self.services} dev br0\n"
        )
        run(
            [
                "/bin/sh",
                "-ec",
                f"ip addr add {self.gateway}/24 dev {self.link}\n"
                f"ip link set {self.link} up\n"
                f"ip route replace {self.services} via {self.control_plane}\n",
            ]
        )

    def connect_node(self, number: int, *, cluster: Keeper, node: Keeper) -> None:
        """Plug a node into the switch."""
        cluster.run_net(
            # The wire of a node that crashed goes with its namespace, some time later.
            f"ip link delete node{number} 2>/dev/null || true\n"
            f"ip link add node{number} type veth"
            f" peer name eth0 address {self._mac(11 + number)} netns {node.pid}\n"
            f"ip link set node{number} master br0\n"
            f"ip link set node{number} up\n"
            f"ip route replace {self.node_pods(number)} via {self.node(number)}\n"
        )
        node.run_net(
            "ip link set lo up\n"
            f"ip addr add {self.node(number)}/24 dev eth0\n"
            "ip link set eth0 up\n"
            "echo 1 > /proc/sys/net/ipv4/ip_forward\n"
            "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables\n"
            f"ip route replace default via {self.control_plane}\n"
            f"{self.pod_routes(without=number)}\n"
        )
        run(["ip", "route", "replace", self.node_pods(number), "via", self.node(number)])

    def cut_node(self, number: int, *, cluster: Keeper) -> None:
        """Pull a node's wire: it goes on running, and nobody reaches it."""
        cluster.run_net(f"ip link set node{number} down")

    def mend_node(self, number: int, *, cluster: Keeper) -> None:
        """Plug a node's wire in again."""
        cluster.run_net(f"ip link set node{number} up")

    def _mac(self, host: int) -> str:
        """An interface's address that stays the same over a node's crash."""
        return f"02:a7:00:00:{self.index:02x}:{host:02x}"

    def disconnect_machine(self) -> None:
        """Remove this machine's interface and with it its routes; it may be gone already."""
        with contextlib.suppress(ClusterError):
            run(["ip", "link", "delete", self.link])
