"""What the controller is told by its environment (the chart sets every one of these)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ararat import hostpaths
from ararat.errors import InvalidSpec


@dataclass(frozen=True)
class Config:
    namespace: str
    keys_namespace: str
    pod_name: str
    pod_uid: str
    gate_image: str
    gate_pull_policy: str
    #: Memory-backed: API objects, Secrets among them, are laid out here before restic reads them.
    spool_dir: Path
    cache_dir: Path
    #: restic's temporary files and the sockets of its REST servers.
    scratch_dir: Path
    port: int
    #: Service that the API server reaches the webhooks through; empty: none are served.
    webhook_service: str
    webhook_port: int
    log_level: str
    log_json: bool
    #: A metric for each claim, besides those for each namespace.
    metrics_per_claim: bool
    #: Directories of the nodes that agents back up though they are hostPath volumes.
    host_paths: tuple[PurePosixPath, ...] = ()
    #: A file with the pod of maintenance jobs, JSON; None: no maintenance is done.
    maintenance_template: Path | None = None
    #: What of the environment is about maintenance.
    maintenance: Mapping[str, str] = field(default_factory=dict)
    #: What of it is about verification.
    verification: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Config:
        """Raises InvalidSpec naming the variable."""
        namespace = env.get("ARARAT_NAMESPACE", "ararat")
        gate_image = env.get("ARARAT_GATE_IMAGE", "")
        if not gate_image:
            raise InvalidSpec(
                "ARARAT_GATE_IMAGE is not set: the chart sets it to the agent's image"
            )
        return cls(
            namespace=namespace,
            keys_namespace=env.get("ARARAT_KEYS_NAMESPACE", f"{namespace}-keys"),
            pod_name=env.get("POD_NAME", "controller"),
            pod_uid=env.get("POD_UID", ""),
            gate_image=gate_image,
            gate_pull_policy=env.get("ARARAT_GATE_PULL_POLICY", "IfNotPresent"),
            spool_dir=Path(env.get("ARARAT_SPOOL_DIR", "/spool")),
            cache_dir=Path(env.get("ARARAT_CACHE_DIR", "/cache")),
            scratch_dir=Path(env.get("ARARAT_SCRATCH_DIR", "/tmp")),  # noqa: S108 - an emptyDir
            port=_port(env, "ARARAT_PORT", 8080),
            webhook_service=env.get("ARARAT_WEBHOOK_SERVICE", ""),
            webhook_port=_port(env, "ARARAT_WEBHOOK_PORT", 9443),
            host_paths=_host_paths(env, "ARARAT_HOST_PATHS"),
            maintenance_template=(
                Path(env["ARARAT_MAINTENANCE_TEMPLATE"])
                if env.get("ARARAT_MAINTENANCE_TEMPLATE")
                else None
            ),
            maintenance={key: env[key] for key in env if key.startswith("ARARAT_MAINTENANCE_")},
            verification={key: env[key] for key in env if key.startswith("ARARAT_VERIFICATION_")},
            log_level=env.get("ARARAT_LOG_LEVEL", "info"),
            log_json=env.get("ARARAT_LOG_FORMAT", "json") == "json",
            metrics_per_claim=env.get("ARARAT_METRICS_PER_CLAIM", "") == "true",
        )


def _host_paths(env: Mapping[str, str], name: str) -> tuple[PurePosixPath, ...]:
    try:
        return hostpaths.parse(env.get(name, ""))
    except ValueError as error:
        raise InvalidSpec(f"{name} must list directories below /, not {error}") from None


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise InvalidSpec(f"{name} is {text!r}, which is no port number")
    return int(text)
