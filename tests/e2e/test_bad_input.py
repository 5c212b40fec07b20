"""What people get wrong is answered with one clear sentence, and nothing is touched.

Every case says which words the sentence must hold: what was wrong, by its name. "Nothing is
touched" means: no Backup, Restore or node job is left that was not there, and the workload is as
it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from azure.storage.blob import ContainerClient

from tests.cluster.azurite import Azurite
from tests.cluster.process import free_port
from tests.e2e.conftest import Ground, Namespaces, add_blob_location
from tests.e2e.support import ground, kinds
from tests.e2e.support.install import Blob, wait_for_location
from tests.e2e.support.nodejobs import reads
from tests.e2e.support.tools import Object, Outcome, Tools
from tests.e2e.support.walks import Walk
from tests.e2e.support.workload import Workload
from tests.e2e.test_kubectl import stored_manifest

_OURS = "backups.ararat.dev,restores.ararat.dev,podvolumebackups,podvolumerestores"


@pytest.fixture(scope="module")
def app(installed: Ground) -> Iterator[Workload]:
    """One workload for all cases: none of them may change it."""
    namespaces = Namespaces(installed.tools)
    name = namespaces.new("inputs")
    yield Workload(
        installed.tools, name, installed.image, replicas=1, fill="--large 0 --small 20"
    ).install()
    namespaces.remove()


@pytest.fixture(scope="module")
def before(app: Workload) -> dict[str, Walk]:
    """The workload's volumes at the start."""
    return app.walks()


@pytest.fixture
def untouched(app: Workload, before: dict[str, Walk], tools: Tools) -> Iterator[None]:
    """Afterwards everything must be as it was."""
    ours = _names(tools)
    yield
    assert _names(tools) == ours
    assert not any(walk.differences(app.walks()[claim]) for claim, walk in before.items())


@pytest.mark.usefixtures("untouched")
class TestCommands:
    """Refused at once, by the command line."""

    def test_unknown_backup(self, tools: Tools) -> None:
        refused = tools.ararat("restore", "create", "--from-backup", "nowhere", check=False)
        assert_sentence(refused, "backup", "nowhere")

    def test_unknown_location(self, tools: Tools, app: Workload) -> None:
        what = ("--include-namespaces", app.namespace, "--location", "atlantis", "--wait")
        assert_sentence(
            tools.ararat("backup", "create", "b", *what, check=False), "location", "atlantis"
        )

    @pytest.mark.parametrize("name", ["My_Backup", "-x", "a..b", "ünicode"])
    def test_a_name_that_kubernetes_does_not_take(
        self, tools: Tools, app: Workload, name: str
    ) -> None:
        what = ("--include-namespaces", app.namespace, "--wait")
        refused = tools.ararat("backup", "create", *what, "--", name, check=False)
        assert_sentence(refused, name)

    def test_a_namespace_that_matches_nothing(self, tools: Tools) -> None:
        what = ("--include-namespaces", "no-such-*", "--wait")
        refused = tools.ararat("backup", "create", "b", *what, check=False)
        assert_sentence(refused, "namespace", "no-such-*")


def test_an_annotation_that_names_a_volume_the_pod_does_not_have(
    tools: Tools, app: Workload, before: dict[str, Walk]
) -> None:
    pod = ("pod", "parts-0", "-n", app.namespace)
    try:
        tools.kubectl("annotate", *pod, "--overwrite", "ararat.dev/backup-volumes=dada")
        backup = f"{app.namespace}-misspelt"
        what = ("--include-namespaces", app.namespace, "--wait")
        refused = tools.ararat("backup", "create", backup, *what, check=False)
    finally:
        tools.kubectl("annotate", *pod, "--overwrite", "ararat.dev/backup-volumes=data")
    assert_sentence(refused, "parts-0", "dada")
    assert app.walks().keys() == before.keys()


def test_restoring_over_a_namespace_that_exists_says_what_was_left_alone(
    tools: Tools, app: Workload, before: dict[str, Walk]
) -> None:
    backup, restore = f"{app.namespace}-kept", f"{app.namespace}-over"
    tools.ararat("backup", "create", backup, "--include-namespaces", app.namespace, "--wait")
    everything = _everything(tools, app.namespace)
    done = tools.ararat(
        "restore", "create", restore, "--from-backup", backup, "--wait", check=False
    )

    assert re.search(r"left alone", done.said), done.said
    found = tools.get("restores.ararat.dev", restore, namespace=tools.namespace)
    assert found is not None
    objects = found["status"]["objects"]
    assert objects["leftAlone"] > 0
    assert _everything(tools, app.namespace) == everything
    assert objects.get("created", 0) == 0, tools.ararat("restore", "logs", restore).said
    assert not any(walk.differences(app.walks()[claim]) for claim, walk in before.items())


def test_volumes_that_hold_no_files_are_refused_each_with_its_reason(
    tools: Tools, installed: Ground, namespaces: Namespaces
) -> None:
    """Nothing is read under the name of a backup that is no file of the user's; the rest is."""
    name = namespaces.new("odd")
    tools.kubectl("create", "namespace", name)
    try:
        tools.apply(_odd(name, installed.image))
        ready = ("--for=condition=Ready", "pod/odd", "-n", name, "--timeout=120s")
        tools.kubectl("wait", *ready, timeout=130)
        what = ("--include-namespaces", name, "--wait")
        refused = tools.ararat("backup", "create", name, *what, check=False)
    finally:
        tools.kubectl("delete", "pv", name, "--wait=false")
    assert_sentence(refused, "PartiallyFailed")
    found = {
        (volume["pod"], volume["volume"]): (volume["coverage"], volume.get("reason", ""))
        for volume in stored_manifest(tools, name)["volumes"]
    }
    files = ("Skipped", "NotFiles")  # kept as the API object that it is made from
    assert found == {
        ("odd", "plain"): ("BackedUp", ""),
        ("odd", "node"): ("Failed", "HostPath"),
        ("odd", "secret"): files,
        ("odd", "config"): files,
        ("odd", "projected"): files,
        ("odd", "about"): files,
        ("raw", "device"): ("Failed", "BlockMode"),
    }
    (job,) = reads(tools, name)
    assert job["spec"]["volume"] == "plain"


def _odd(namespace: str, image: str) -> list[Object]:
    """A pod with a volume of each kind that is not files, all named in its annotation, and one that
    is; and a pod for a block device. That one never starts: there is no such device."""
    about = {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}
    volumes = [
        {"name": "plain", "emptyDir": {}},
        {"name": "node", "hostPath": {"path": "/etc"}},
        {"name": "secret", "secret": {"secretName": "odd"}},
        {"name": "config", "configMap": {"name": "odd"}},
        {"name": "projected", "projected": {"sources": [{"configMap": {"name": "odd"}}]}},
        {"name": "about", "downwardAPI": about},
    ]
    odd = kinds.obj("v1", "Pod", "odd", spec=kinds.looking(image, "unused")["spec"])
    odd["spec"]["volumes"] = volumes
    odd["spec"]["containers"][0]["volumeMounts"] = [
        {"name": volume["name"], "mountPath": f"/v/{volume['name']}"} for volume in volumes
    ]
    raw = kinds.obj("v1", "Pod", "raw", spec=kinds.looking(image, "raw")["spec"])
    raw["spec"]["volumes"][0]["name"] = "device"
    (container,) = raw["spec"]["containers"]
    del container["volumeMounts"]
    container["volumeDevices"] = [{"name": "device", "devicePath": "/dev/raw"}]
    for pod in (odd, raw):
        names = ",".join(volume["name"] for volume in pod["spec"]["volumes"])
        pod["metadata"]["annotations"] = {"ararat.dev/backup-volumes": names}
    size = {"storage": "1Gi"}
    block = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "storageClassName": ""}
    claim = {**block, "volumeName": namespace, "resources": {"requests": size}}
    any_node = {"key": "kubernetes.io/hostname", "operator": "Exists"}
    volume = {
        **block,
        "capacity": size,
        "persistentVolumeReclaimPolicy": "Retain",
        "local": {"path": "/dev/ararat-none"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [any_node]}]}},
    }
    documents = [
        kinds.obj("v1", "Secret", "odd", stringData={"key": "value"}),
        kinds.obj("v1", "ConfigMap", "odd", data={"key": "value"}),
        kinds.obj("v1", "PersistentVolumeClaim", "raw", spec=claim),
        odd,
        raw,
    ]
    for document in documents:
        document["metadata"]["namespace"] = namespace
    return [kinds.obj("v1", "PersistentVolume", namespace, spec=volume), *documents]


class TestLocations:
    """A location that cannot be used says why, in its own status and to who wants to use it."""

    def test_blob_storage_that_cannot_be_reached(
        self, tools: Tools, app: Workload, azurite: Azurite
    ) -> None:
        endpoint = f"https://{azurite.host}:{free_port(azurite.host)}/{azurite.account}"
        blob = ground.blob(azurite, "e2e", create=False)
        self._unusable(tools, app, "unreachable", _at(blob, endpoint=endpoint), azurite.host)

    def test_a_container_that_does_not_exist(
        self, tools: Tools, app: Workload, azurite: Azurite
    ) -> None:
        blob = ground.blob(azurite, "absent", create=False)
        self._unusable(tools, app, "containerless", blob, "absent")

    def test_a_wrong_account_key(self, tools: Tools, app: Workload, azurite: Azurite) -> None:
        blob = ground.blob(azurite, "e2e")
        self._unusable(tools, app, "locked", _at(blob, key="d3Jvbmc="), azurite.account)

    @pytest.mark.usefixtures("blob_location")
    def test_a_location_made_under_another_master_key(
        self, tools: Tools, app: Workload, azurite: Azurite
    ) -> None:
        blob = ground.blob(azurite, "foreign")
        _copy_with_another_key(azurite, source="e2e", target="foreign")
        self._unusable(tools, app, "foreign", blob, "key")

    def _unusable(self, tools: Tools, app: Workload, name: str, blob: Blob, *words: str) -> None:
        add_blob_location(tools, name, blob)
        try:
            found = wait_for_location(tools, name, phase="Unavailable")
            for word in words:
                assert word in found["status"]["message"], found["status"]
            what = ("--include-namespaces", app.namespace, "--location", name, "--wait")
            refused = tools.ararat("backup", "create", f"to-{name}", *what, check=False)
            assert_sentence(refused, name, *words)
            shown = tools.kubectl("get", "backuplocation", name, "-n", tools.namespace)
            assert "Unavailable" in shown
        finally:
            tools.kubectl("delete", "backuplocation", name, "-n", tools.namespace)


def assert_sentence(refused: Outcome, *words: str) -> None:
    """Assert that a command failed and said why, shortly and by name."""
    assert refused.code not in (0, 130), refused.said
    assert "Traceback" not in refused.said
    last = refused.stderr.strip().splitlines()[-1:] or refused.stdout.strip().splitlines()[-1:]
    assert last, "it said nothing"
    for word in words:
        assert word in refused.said, f"{word!r} is not in: {refused.said}"
    errors = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) <= 1, refused.stderr


def _names(tools: Tools) -> set[str]:
    printed = tools.kubectl("get", _OURS, "-n", tools.namespace, "-o", "name")
    return set(printed.split())


def _everything(tools: Tools, namespace: str) -> set[tuple[str, str, str]]:
    """Kind, name and UID of every object of a namespace, but for events."""
    listed = tools.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    kinds = [kind for kind in listed if not kind.startswith("events")]
    return {
        (item["kind"], item["metadata"]["name"], item["metadata"]["uid"])
        for item in tools.items(",".join(kinds), namespace=namespace)
    }


def _at(blob: Blob, *, endpoint: str | None = None, key: str | None = None) -> Blob:
    return Blob(
        account=blob.account,
        key=key or blob.key,
        container=blob.container,
        endpoint=endpoint or blob.endpoint,
        ca_bundle=blob.ca_bundle,
    )


def _copy_with_another_key(azurite: Azurite, *, source: str, target: str) -> None:
    """Put a location into *target* that was, it says, made under a key nobody here has."""
    clients = [
        ContainerClient(
            azurite.endpoint,
            container,
            credential={"account_name": azurite.account, "account_key": azurite.key},
            connection_verify=str(azurite.ca_file),
        )
        for container in (source, target)
    ]
    with clients[0] as there, clients[1] as here:
        document = json.loads(there.download_blob("location.json").readall())
        (name,) = [key for key in document if "ingerprint" in key]
        document[name] = ["0" * len(document[name][0])]
        here.upload_blob("location.json", json.dumps(document).encode(), overwrite=True)
