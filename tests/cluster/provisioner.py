"""A small volume provisioner, run as a process of the cluster.

Problem: there is no CSI driver at hand, and the product backs up what the kubelet *mounts* below
its pods directory, which hostPath volumes are not.
Decision: claims of the classes `ararat-local` (the default) and `ararat-other` are answered with
`local` volumes: directories that the kubelet bind-mounts. Their node affinity names the node the
scheduler chose; a ReadWriteMany claim is admitted to every node, for the disk underneath is one.
When a claim is gone and its policy is Delete, so are volume and directory.
Whatever changes about claims and volumes, all of them are looked at again, at most five times a
second.
Limits: no quotas, no expansion, one claim at a time.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from tests.cluster.api import ApiClient, ApiError

PROVISIONER: Final = "ararat.test/local"
DEFAULT_CLASS: Final = "ararat-local"
OTHER_CLASS: Final = "ararat-other"
# Where the nodes see the directory that the volumes are made in.
NODE_DIRECTORY: Final = "/var/lib/volumes"

# Changes come in crowds.
_GATHER = 0.2
_PAUSE_AFTER_AN_ERROR = 0.5
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_CLASSES_PATH = "/apis/storage.k8s.io/v1/storageclasses"
_VOLUMES_PATH = "/api/v1/persistentvolumes"
_ANY_CLAIM_PATH = "/api/v1/persistentvolumeclaims"

Object = dict[str, Any]


def storage_class(name: str) -> Object:
    """One of the two classes."""
    default = "true" if name == DEFAULT_CLASS else "false"
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": default},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def create_classes(api: ApiClient) -> None:
    """Make both classes unless they are there."""
    for name in (DEFAULT_CLASS, OTHER_CLASS):
        api.ensure(_CLASSES_PATH, storage_class(name))


def volume_for(claim: Object, *, policy: str) -> Object | None:
    """The volume that answers *claim*, or None while it needs none."""
    metadata, spec = claim["metadata"], claim["spec"]
    node = metadata.get("annotations", {}).get(_SELECTED_NODE)
    if node is None or spec.get("volumeName") or metadata.get("deletionTimestamp"):
        return None
    name = f"pvc-{metadata['uid']}"
    shared = "ReadWriteMany" in spec["accessModes"] or "ReadOnlyMany" in spec["accessModes"]
    expression: Object = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    if shared:
        expression = {"key": "kubernetes.io/hostname", "operator": "Exists"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": spec["storageClassName"],
            "volumeMode": "Filesystem",
            "local": {"path": f"{NODE_DIRECTORY}/{spec['storageClassName']}/{name}"},
            "nodeAffinity": {
                "required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
            },
        },
    }


class Provisioner:
    """Answers claims and clears away what they leave."""

    def __init__(self, api: ApiClient, *, directory: Path) -> None:
        self._api = api
        self._directory = directory

    def step(self) -> None:
        """Look once at everything and do what is due."""
        policies = {
            found["metadata"]["name"]: found.get("reclaimPolicy", "Delete")
            for found in self._api.items(_CLASSES_PATH)
            if found["provisioner"] == PROVISIONER
        }
        for claim in self._api.items(_ANY_CLAIM_PATH):
            policy = policies.get(claim["spec"].get("storageClassName", ""))
            volume = volume_for(claim, policy=policy) if policy else None
            if volume is not None:
                self._provision(volume)
        for volume in self._api.items(_VOLUMES_PATH):
            if _is_ours(volume) and volume["status"].get("phase") == "Released":
                self._reclaim(volume)

    def _provision(self, volume: Object) -> None:
        directory = self._path(volume)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o777)
        self._api.ensure(_VOLUMES_PATH, volume)

    def _reclaim(self, volume: Object) -> None:
        if volume["spec"]["persistentVolumeReclaimPolicy"] != "Delete":
            return
        shutil.rmtree(self._path(volume), ignore_errors=True)
        self._api.delete(f"{_VOLUMES_PATH}/{volume['metadata']['name']}")

    def _path(self, volume: Object) -> Path:
        storage_class_name: str = volume["spec"]["storageClassName"]
        name: str = volume["metadata"]["name"]
        return self._directory / storage_class_name / name


def _is_ours(volume: Object) -> bool:
    annotations = volume["metadata"].get("annotations", {})
    return bool(annotations.get("pv.kubernetes.io/provisioned-by") == PROVISIONER)


def main(arguments: list[str]) -> int:
    """Run until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    api = ApiClient(chosen.kubeconfig)
    provisioner = Provisioner(api, directory=chosen.directory)
    due = threading.Event()
    for path in (_ANY_CLAIM_PATH, _VOLUMES_PATH):
        threading.Thread(target=_tell, args=(api, path, due), daemon=True).start()
    while True:
        due.wait()
        time.sleep(_GATHER)
        due.clear()
        # The API server may be away: a test stopped it.
        try:
            provisioner.step()
        except (OSError, http.client.HTTPException, ApiError) as error:
            _say(error)
            due.set()


def _tell(api: ApiClient, path: str, due: threading.Event) -> None:
    """Set *due* whenever something below *path* changes, or may have changed unseen."""
    while True:
        try:
            for _ in api.changes(path):
                due.set()
        except (OSError, http.client.HTTPException, ApiError) as error:
            _say(error)


def _say(error: Exception) -> None:
    print(error, flush=True)
    time.sleep(_PAUSE_AFTER_AN_ERROR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
