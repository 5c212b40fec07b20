"""``python -m tests.e2e --name NAME``: make a cluster of ``make cluster`` fit for these tests.

Gives its nodes the images built from this tree and prints the settings under which
``pytest tests/e2e`` takes it as a cluster that was there already, so that trying one test again
does not start a cluster each time. Between two runs: ``helm uninstall ararat -n ararat``.
"""

from __future__ import annotations

import argparse
import sys

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.e2e.support import ground, seeds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e", description=__doc__)
    parser.add_argument("--name", default="dev", help="the cluster (dev)")
    name = parser.parse_args().name
    try:
        if name not in Cluster.names():
            raise ClusterError(f"there is no cluster {name}; start it with 'make cluster'")
        cluster = Cluster(name)
        seeds.load(cluster, {**ground.product_images(), **ground.workload_image()})
    except ClusterError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"export ARARAT_E2E_GATEWAY={cluster.gateway_ip}")
    print(f"export ARARAT_E2E_IMAGE={ground.WORKLOAD_IMAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
