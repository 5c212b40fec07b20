"""etcd and kube-apiserver: alone on loopback for component tests, or as a cluster's control plane.

Problem: no double of the API server is good enough to test a controller against.
Decision: the real one. Alone it takes a few seconds, needs neither root nor nodes, and listens on
random ports of 127.0.0.1; the ServiceAccount admission plugin is off there, because nothing would
make the accounts it wants. A cluster gives it an address, an entry into its namespaces and the
controllers.
`programs` is another version's: only the API server is taken from there.
Limits: one API server, one etcd member; `stop_apiserver` and `start_apiserver` keep data and port.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import kubeconfig
from tests.cluster.api import ApiClient
from tests.cluster.certs import Authority, KeyPair, signing_key
from tests.cluster.errors import ClusterError
from tests.cluster.process import Entry, Service, free_port, here, run
from tests.cluster.toolchain import kubernetes, system

_READY_TIMEOUT = 90.0
# The first version in which a feature no longer needs, and soon no longer knows, its gate.
_EPHEMERAL_VOLUMES_WITHOUT_GATE = 23


@dataclass(frozen=True)
class Placement:
    """Where a control plane runs and how it is reached."""

    address: str = "127.0.0.1"
    apiserver_port: int = 0
    enter: Callable[[], Entry] = here
    service_cidr: str = "198.19.255.0/24"
    cluster: bool = False
    leashed: bool = True


class ControlPlane:
    """One API server with its etcd; with controllers and a scheduler if it is a cluster's."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        placement: Placement | None = None,
        programs: Path | None = None,
        fair: bool | None = None,
    ) -> None:
        """*fair*: whether requests are queued by priority, which costs a fifth of its processor
        time. A cluster's server does it, as real ones do, and one of another version; else one that
        is asked to.
        """
        self._programs = programs or kubernetes.ensure()
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="ararat-apiserver-"))
        self.placement = placement or Placement()
        unasked = self.placement.cluster or programs is not None
        self._fair = unasked if fair is None else fair
        self.port = self.placement.apiserver_port or free_port()
        self.kubeconfig = self.directory / "admin.kubeconfig"
        self.pki = self.directory / "pki"
        inside = self.placement.cluster
        self._etcd_port = 2379 if inside else free_port()
        self._etcd_peer_port = 2380 if inside else free_port()
        self.etcd = self._service("etcd", self._etcd_command())
        self.apiserver = self._service("kube-apiserver", self._apiserver_command())
        self.controllers = self._service("kube-controller-manager", self._controllers_command())
        self.scheduler = self._service("kube-scheduler", self._scheduler_command())

    @property
    def url(self) -> str:
        """The address of the API server."""
        return f"https://{self.placement.address}:{self.port}"

    @property
    def ca(self) -> KeyPair:
        """The cluster's certificate authority."""
        return KeyPair(certificate=self.pki / "ca.crt", key=self.pki / "ca.key")

    @functools.cached_property
    def api(self) -> ApiClient:
        """A client with the rights of system:masters."""
        return ApiClient(self.kubeconfig)

    def start(self) -> Path:
        """Start, wait until it is ready, and return the kubeconfig of an administrator."""
        try:
            if not self.ca.certificate.exists():
                self._make_pki()
            self.etcd.start()
            self.start_apiserver()
            if self.placement.cluster:
                self.controllers.start()
                self.scheduler.start()
            else:
                self._make_namespaces()
        except BaseException:
            self.stop()
            raise
        return self.kubeconfig

    def stop(self) -> None:
        """Stop everything; a control plane with a temporary directory leaves no file."""
        for service in (self.scheduler, self.controllers, self.apiserver, self.etcd):
            service.stop(patience=5.0)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def stop_apiserver(self) -> None:
        """Take the API server away; etcd keeps the data."""
        self.apiserver.kill()

    def start_apiserver(self) -> None:
        """Bring the API server (back) on the same port, and wait until it is ready."""
        self.apiserver.start()
        self.apiserver.wait_until(self.api.ready, timeout=_READY_TIMEOUT, what="readiness")

    def user(self, name: str, *, groups: tuple[str, ...] = ()) -> Path:
        """A kubeconfig for another user; what it may do is up to RBAC."""
        pair = self._authority.issue(f"user-{name}", common_name=name, organizations=groups)
        return self._kubeconfig(f"{name}.kubeconfig", client=pair)

    def __enter__(self) -> ControlPlane:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_namespaces(self) -> None:
        """The server makes these itself, but only some time after it says that it is ready."""
        for name in ("default", "kube-system"):
            self.api.ensure("/api/v1/namespaces", {"metadata": {"name": name}})

    def _service(self, name: str, command: list[str]) -> Service:
        return Service(
            name,
            directory=self.directory,
            command=command,
            enter=self.placement.enter,
            leashed=self.placement.leashed,
        )

    @functools.cached_property
    def _authority(self) -> Authority:
        return Authority(self.pki, name="ararat-test-cluster")

    def _make_pki(self) -> None:
        first_service = str(next(ipaddress.ip_network(self.placement.service_cidr).hosts()))
        issue = self._authority.issue
        issue(
            "apiserver",
            common_name="kube-apiserver",
            names=[
                self.placement.address,
                first_service,
                "127.0.0.1",
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ],
        )
        issue("apiserver-kubelet", common_name="ararat-apiserver", organizations=["system:masters"])
        signing_key(self.pki / "service-accounts.key")
        for name, user, groups in (
            ("admin", "ararat-admin", ["system:masters"]),
            ("controllers", "system:kube-controller-manager", []),
            ("scheduler", "system:kube-scheduler", []),
            ("proxy", "system:kube-proxy", []),
        ):
            pair = issue(name, common_name=user, organizations=groups)
            self._kubeconfig(f"{name}.kubeconfig", client=pair)

    def issue_node(self, name: str, *, address: str) -> KeyPair:
        """The certificate of a node, for both its ends, and its kubeconfig."""
        pair = self._authority.issue(
            f"node-{name}",
            common_name=f"system:node:{name}",
            organizations=["system:nodes"],
            names=[name, address],
        )
        self._kubeconfig(f"node-{name}.kubeconfig", client=pair)
        return pair

    def _kubeconfig(self, file: str, *, client: KeyPair) -> Path:
        return kubeconfig.write(
            self.directory / file, server=self.url, ca=self.ca.certificate, client=client
        )

    def _etcd_command(self) -> list[str]:
        client = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._etcd_peer_port}"
        return [
            _etcd(),
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]

    def _apiserver_command(self) -> list[str]:
        keys = self.pki / "service-accounts"
        command = [
            str(self._programs / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--bind-address={self.placement.address}",
            f"--advertise-address={self.placement.address}",
            f"--secure-port={self.port}",
            f"--client-ca-file={self.ca.certificate}",
            f"--tls-cert-file={self.pki / 'apiserver.crt'}",
            f"--tls-private-key-file={self.pki / 'apiserver.key'}",
            f"--service-account-key-file={keys.with_suffix('.pub')}",
            f"--service-account-signing-key-file={keys.with_suffix('.key')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={self.placement.service_cidr}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            f"--kubelet-client-certificate={self.pki / 'apiserver-kubelet.crt'}",
            f"--kubelet-client-key={self.pki / 'apiserver-kubelet.key'}",
            f"--kubelet-certificate-authority={self.ca.certificate}",
            "--kubelet-preferred-address-types=InternalIP,Hostname",
            "--enable-aggregator-routing=true",
            f"--cert-dir={self.pki}",
            *feature_gates(self._programs),
        ]
        if not self._fair:
            command.append("--enable-priority-and-fairness=false")
        if not self.placement.cluster:
            # 127.0.0.1 cannot be advertised as an endpoint of the kubernetes Service.
            command += [
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
            ]
        return command

    def _controllers_command(self) -> list[str]:
        return [
            str(_program("kube-controller-manager")),
            f"--kubeconfig={self.directory / 'controllers.kubeconfig'}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.pki / 'service-accounts.key'}",
            f"--root-ca-file={self.ca.certificate}",
            f"--cluster-signing-cert-file={self.ca.certificate}",
            f"--cluster-signing-key-file={self.ca.key}",
            # A namespace on its way out is looked at after 5, 10, 20, 40 and 60 s; and then.
            "--namespace-sync-period=3s",
            "--node-monitor-period=2s",
            "--node-monitor-grace-period=20s",
            f"--cert-dir={self.pki}",
            *feature_gates(),
        ]

    def _scheduler_command(self) -> list[str]:
        return [
            str(_program("kube-scheduler")),
            f"--kubeconfig={self.directory / 'scheduler.kubeconfig'}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            f"--cert-dir={self.pki}",
            *feature_gates(),
        ]


def feature_gates(programs: Path | None = None) -> list[str]:
    """Generic ephemeral volumes are alpha in 1.20 and on by themselves from 1.23."""
    if minor_version(programs) < _EPHEMERAL_VOLUMES_WITHOUT_GATE:
        return ["--feature-gates=GenericEphemeralVolume=true"]
    return []


@functools.cache
def minor_version(programs: Path | None = None) -> int:
    """The 20 of Kubernetes 1.20."""
    printed = run([str((programs or kubernetes.ensure()) / "kube-apiserver"), "--version"])
    match = re.search(r"v1\.(\d+)", printed)
    if match is None:
        raise ClusterError(f"kube-apiserver says a version that is not one: {printed.strip()}")
    return int(match[1])


def _etcd() -> str:
    bundled = _program("etcd")
    if bundled.is_file():
        return str(bundled)
    if shutil.which("etcd") is None:
        system.ensure()
    return "etcd"


def _program(name: str) -> Path:
    return kubernetes.ensure() / name
