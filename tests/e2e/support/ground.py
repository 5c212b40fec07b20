"""The ground tests and demo stand on: a cluster of this machine, or one that is there already.

Problem: the same tests must run on the harness's own cluster, with images built from this tree and
an emulator for Blob, and on anybody's cluster, with images and storage of theirs.
Decision: with KUBECONFIG set, that cluster is used as it is: images and chart values come from the
file named by ARARAT_E2E_VALUES, the workload's image from ARARAT_E2E_IMAGE, and the emulator for
Blob listens where ARARAT_E2E_GATEWAY says that its pods reach this machine. Else a two-node cluster
is started, the product's images are built and loaded under the names the chart uses by default, so
that `helm install` needs no values.
Limits: with an external cluster nothing is cleaned up but what the tests themselves made.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import ararat
from tests.cluster.azurite import Azurite
from tests.cluster.builder import build_image
from tests.cluster.images import Image
from tests.e2e.support.install import Blob

ROOT = Path(__file__).parents[3]
WORKLOAD_IMAGE = "ararat-e2e/workload:1"
#: Dockerfile and published name of what the product consists of.
_PRODUCT = {
    "ararat-agent": ROOT / "Dockerfile.agent",
    "ararat-controller": ROOT / "Dockerfile.controller",
}


def product_images() -> dict[str, Image]:
    """The product's images, by the names that the chart uses by default."""
    tag = re.sub(r"[^\w.-]", "-", ararat.__version__)
    return {
        f"{name}:{tag}": build_image(dockerfile, name=name, context=ROOT)
        for name, dockerfile in _PRODUCT.items()
    }


def workload_image() -> dict[str, Image]:
    """What the small workloads of the tests run in: the bare base, for its Python."""
    dockerfile = Path(__file__).with_name("Dockerfile.workload")
    return {WORKLOAD_IMAGE: build_image(dockerfile, name="e2e-workload")}


def blob(azurite: Azurite, container: str, *, create: bool = True) -> Blob:
    """A container in the emulator, as pods of any cluster of this machine reach it."""
    if create:
        azurite.create_container(container)
    return Blob(
        account=azurite.account,
        key=azurite.key,
        container=container,
        endpoint=azurite.endpoint,
        ca_bundle=azurite.ca_pem,
    )


def external_kubeconfig() -> Path | None:
    """The cluster the user wants the tests to run on, if any."""
    named = os.environ.get("KUBECONFIG")
    return Path(named) if named else None
