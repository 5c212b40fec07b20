"""Every command against a real API server: what it makes, what it refuses, what it leaves alone."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ararat import keys
from ararat.api.names import KEY_REENCRYPT
from ararat.cli import main
from tests.component.cli.conftest import MERGE, Cluster


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def error(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one line on stderr."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr.removeprefix("error: ").strip()


# --- backup -----------------------------------------------------------------------------------


def test_backup_create(cluster: Cluster) -> None:
    cluster.location()
    said = ok(cluster.ararat("backup", "create", "mybackup", "--include-namespaces", "default"))
    assert said.startswith("backup mybackup created; follow it with 'ararat backup wait mybackup")
    made = cluster.get("backups", "mybackup")
    assert made["spec"] == {
        "includedNamespaces": ["default"],
        "volumes": {"defaultPolicy": "OptIn", "unmounted": "Skip", "excludeCaches": True},
        "hooks": {"maxFreezeSeconds": 600},
        "deadlines": {"noProgressSeconds": 900},
        "pinned": False,
        "cancel": False,
    }


def test_backup_create_prints_the_object_for_machines(cluster: Cluster) -> None:
    cluster.location()
    made = json.loads(ok(cluster.ararat("backup", "create", "b", "-o", "json")))
    assert made["metadata"]["uid"]
    assert "managedFields" not in made["metadata"]


def test_what_a_backup_is_refused_for(cluster: Cluster) -> None:
    create = ("backup", "create", "b")
    assert "there is no backup location yet" in error(cluster.ararat(*create))
    cluster.location("far")
    assert "no location is the default one" in error(cluster.ararat(*create))
    assert "there is no location 'x' (there is far)" in error(
        cluster.ararat(*create, "--location", "x")
    )
    cluster.location("default")
    assert "no namespace matches 'defualt'; did you mean 'default'?" in error(
        cluster.ararat(*create, "--include-namespaces", "defualt")
    )
    cluster.status("backuplocations", "far", phase="Unavailable", message="no such container")
    assert "location far is Unavailable: no such container" in error(
        cluster.ararat(*create, "--location", "far")
    )
    cluster.create(
        "backuplocations", "ro", {"filesystem": {"path": "/a"}, "accessMode": "ReadOnly"}
    )
    assert "location ro is ReadOnly here" in error(cluster.ararat(*create, "--location", "ro"))
    assert cluster.names("backups") == [], "nothing was touched"


def test_a_taken_name(cluster: Cluster) -> None:
    cluster.location()
    cluster.backup("b")
    said = error(cluster.ararat("backup", "create", "b"))
    assert said.startswith("there is a backup 'b' already (Completed, made ")


def test_a_namespace_that_does_not_exist(cluster: Cluster) -> None:
    said = error(cluster.ararat("backup", "create", "b", "-n", "nowhere"))
    assert "there is no backup location yet" in said
    assert "-n nowhere" in said


def test_backup_get(cluster: Cluster) -> None:
    done = cluster.ararat("backup", "get")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"there is no backup in namespace {cluster.namespace}" in done.stderr
    cluster.backup("one", coverage={"text": "2 backed up"})
    cluster.backup("two", phase="Failed")
    lines = ok(cluster.ararat("backup", "get")).splitlines()
    assert lines[0].split()[:3] == ["NAME", "PHASE", "VOLUMES"]
    assert {line.split()[0] for line in lines[1:]} == {"one", "two"}
    listed = json.loads(ok(cluster.ararat("backup", "get", "-o", "json")))
    assert listed["kind"] == "List"
    assert len(listed["items"]) == 2
    single = yaml.safe_load(ok(cluster.ararat("backup", "get", "one", "-o", "yaml")))
    assert (single["kind"], single["metadata"]["name"]) == ("Backup", "one")
    said = error(cluster.ararat("backup", "get", "onn"))
    assert said == f"there is no backup 'onn' in namespace {cluster.namespace}; did you mean 'one'?"


def test_describe_shows_node_jobs_where_the_manifest_cannot_be_read(cluster: Cluster) -> None:
    made = cluster.backup("b", message="done")
    cluster.create(
        "podvolumebackups",
        "job",
        {
            "backup": "b",
            "backupUID": made["metadata"]["uid"],
            "node": "n",
            "pod": {"namespace": "wp", "name": "mariadb-0", "uid": "p"},
            "volume": "data",
            "repository": {
                "location": "default",
                "locationID": "l",
                "directory": "d",
                "passwordSecret": "s",
            },
            "host": "h",
        },
        labels={"ararat.dev/backup-uid": made["metadata"]["uid"]},
    )
    done = cluster.ararat("backup", "describe", "b")
    assert "Phase:     Completed" in ok(done)
    assert "wp/mariadb-0/data" in done.stdout
    assert "no controller is running" in done.stderr


def test_logs_of_a_running_backup_and_without_a_controller(cluster: Cluster) -> None:
    cluster.backup("b", phase="InProgress")
    assert "its log is stored when it ends" in error(cluster.ararat("backup", "logs", "b"))
    cluster.status("backups", "b", phase="Failed")
    said = error(cluster.ararat("backup", "logs", "b"))
    assert said.startswith(f"no controller is running in namespace {cluster.namespace}")


def test_cancel(cluster: Cluster) -> None:
    cluster.backup("b", phase="InProgress")
    assert "backup b is being cancelled" in ok(cluster.ararat("backup", "cancel", "b"))
    assert cluster.get("backups", "b")["spec"]["cancel"] is True
    cluster.status("backups", "b", phase="Cancelled")
    said = error(cluster.ararat("backup", "cancel", "b"))
    assert said == "backup b has ended already: it is Cancelled"


def test_verify_with_pods(cluster: Cluster) -> None:
    cluster.location()
    cluster.backup()
    verify = ("backup", "verify", "mybackup", "--run", "--probe", "pg_isready -U app")
    container = {"name": "controller", "image": "none"}
    labels = {"app.kubernetes.io/component": "controller"}
    deployment = {
        "metadata": {"name": "controller", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    path = f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments"
    cluster.plane.api.create(path, deployment)
    assert "set the chart's value verification.run.enabled" in error(cluster.ararat(*verify))
    assert cluster.names("backupverifications") == []
    assert "add it" in error(cluster.ararat("backup", "verify", "mybackup", "--probe", "x"), 2)

    allowed = [{"name": "ARARAT_VERIFICATION_RUN", "value": "true"}]
    patch = [{"op": "add", "path": "/spec/template/spec/containers/0/env", "value": allowed}]
    kind = "application/json-patch+json"
    cluster.plane.api.request("PATCH", f"{path}/controller", body=patch, content_type=kind)
    settings = ("--probe-pods", "app=db", "--include-namespaces", "wp", "--run-timeout", "30m")
    ok(cluster.ararat(*verify, *settings))
    (name,) = cluster.names("backupverifications")
    assert cluster.get("backupverifications", name)["spec"]["run"] == {
        "includedNamespaces": ["wp"],
        "timeout": "30m",
        "probes": [
            {
                "namespace": "",
                "container": "",
                "labelSelector": {"matchLabels": {"app": "db"}, "matchExpressions": []},
                "command": ["sh", "-c", "pg_isready -U app"],
            }
        ],
    }
    run = {"outcome": "Passed", "message": "3 pods started, 1 probe succeeded", "removed": True}
    cluster.status("backupverifications", name, phase="Passed", run=run)
    described = ok(cluster.ararat("verification", "describe", name))
    assert re.search(r"^Pods: +Passed: 3 pods started", described, flags=re.MULTILINE)


# --- restore ----------------------------------------------------------------------------------


def test_restore_create(cluster: Cluster) -> None:
    cluster.location()
    cluster.backup()
    said = ok(
        cluster.ararat(
            "restore", "create", "--from-backup", "mybackup", "--namespace-mappings", "wp:wp-copy"
        )
    )
    (name,) = cluster.names("restores")
    assert name.startswith("mybackup-")
    assert said.startswith(f"restore {name} created")
    assert cluster.get("restores", name)["spec"]["namespaceMapping"] == {"wp": "wp-copy"}
    assert name in ok(cluster.ararat("restore", "get"))
    assert "Namespaces mapped:  wp to wp-copy" in ok(cluster.ararat("restore", "describe", name))


def test_restore_from_a_schedule(cluster: Cluster) -> None:
    cluster.location()
    create = ("restore", "create", "r", "--from-schedule", "nightly")
    assert "schedule 'nightly' has no Completed backup" in error(cluster.ararat(*create))
    cluster.create("backups", "n1", {"schedule": "nightly"})
    cluster.status("backups", "n1", phase="Completed", location="default")
    ok(cluster.ararat(*create))
    assert cluster.get("restores", "r")["spec"]["schedule"] == "nightly"
    assert "(schedule nightly)" in ok(cluster.ararat("restore", "get"))
    cluster.status("restores", "r", backup="n1")
    described = ok(cluster.ararat("restore", "describe", "r"))
    assert re.search(r"^Backup: +n1$", described, flags=re.MULTILINE)
    assert re.search(r"^Of schedule: +nightly$", described, flags=re.MULTILINE)


def test_what_a_restore_is_refused_for(cluster: Cluster) -> None:
    create = ("restore", "create", "--from-backup", "mybackup")
    assert "there is no backup 'mybackup'" in error(cluster.ararat(*create))
    cluster.backup("mybackup", phase="InProgress")
    assert "backup mybackup is InProgress: wait for its end" in error(cluster.ararat(*create))
    cluster.status("backups", "mybackup", phase="Failed", message="the node went away")
    assert error(cluster.ararat(*create)) == (
        "backup mybackup is Failed, there is nothing to restore: the node went away"
    )
    cluster.status("backups", "mybackup", phase="Completed")
    assert "there is no backup location yet" in error(cluster.ararat(*create))
    cluster.location()
    cluster.status("backuplocations", "default", phase="Unavailable", message="not reachable")
    assert "is Unavailable: not reachable" in error(cluster.ararat(*create))
    assert cluster.names("restores") == [], "nothing was touched"


def test_restore_from_a_read_only_location(cluster: Cluster) -> None:
    cluster.location("default", accessMode="ReadOnly")
    cluster.backup()
    ok(cluster.ararat("restore", "create", "r", "--from-backup", "mybackup"))


# --- location ---------------------------------------------------------------------------------


def test_location_create_and_get(cluster: Cluster) -> None:
    ok(cluster.ararat("location", "create", "nas", "--path", "/mnt/nas", "--default"))
    assert cluster.get("backuplocations", "nas")["spec"]["filesystem"] == {"path": "/mnt/nas"}
    said = error(cluster.ararat("location", "create", "b", "--path", "/b", "--default"))
    assert "location nas is the default one already" in said
    azure = ["--azure-account", "acct", "--container", "backups", "--authentication", "SAS"]
    said = error(
        cluster.ararat("location", "create", "az", *azure, "--credentials-secret", "azure")
    )
    assert "there is no secret 'azure' in namespace" in said
    assert cluster.names("backuplocations") == ["nas"]
    assert "file:///mnt/nas" in ok(cluster.ararat("location", "get"))


def test_an_invalid_location_does_not_hide_the_others(cluster: Cluster) -> None:
    cluster.location()
    both = {"filesystem": {"path": "/a"}, "azure": {"accountName": "abc", "container": "abc"}}
    cluster.create("backuplocations", "both", both)
    done = cluster.ararat("location", "get")
    assert "default" in ok(done)
    assert "location both is not valid and left out: spec: exactly one of" in done.stderr
    ok(cluster.ararat("backup", "create", "b"))


def test_location_create_waits_for_the_first_look(cluster: Cluster) -> None:
    process = cluster.start("location", "create", "nas", "--path", "/mnt/nas", "--wait")
    cluster.appears("backuplocations", "nas")
    cluster.status("backuplocations", "nas", phase="Unavailable", message="no such directory")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "location nas is Unavailable: no such directory\n"), err


def test_take_over(cluster: Cluster) -> None:
    cluster.location()
    take_over = ("location", "take-over", "default")
    assert "has no owner that is known here" in error(cluster.ararat(*take_over, "--yes"))
    cluster.status("backuplocations", "default", owner="11111111-2222")
    assert "nobody can be asked here: say --yes" in error(cluster.ararat(*take_over), code=2)
    assert "from cluster 11111111-2222" in ok(cluster.ararat(*take_over, "--yes"))
    annotations = cluster.get("backuplocations", "default")["metadata"]["annotations"]
    assert annotations == {"ararat.dev/take-over-from": "11111111-2222"}
    own = cluster.plane.api.get("/api/v1/namespaces/kube-system")["metadata"]["uid"]
    cluster.status("backuplocations", "default", owner=own)
    assert "belongs to this cluster already" in error(cluster.ararat(*take_over, "--yes"))


def test_location_recover(cluster: Cluster) -> None:
    cluster.location()
    assert "the controller recovers default" in ok(cluster.ararat("location", "recover", "default"))
    annotations = cluster.get("backuplocations", "default")["metadata"]["annotations"]
    assert annotations == {"ararat.dev/recover": "true"}
    assert "nowhere" in error(cluster.ararat("location", "recover", "nowhere"))


# --- key --------------------------------------------------------------------------------------


def store_key(cluster: Cluster, master: bytes) -> None:
    cluster.plane.api.create(
        f"/api/v1/namespaces/{cluster.namespace}-keys/secrets",
        {
            "metadata": {"name": "master-key"},
            "data": {"key": base64.b64encode(master.hex().encode()).decode()},
        },
    )


def stored_key(cluster: Cluster) -> str:
    secret = cluster.plane.api.get(
        f"/api/v1/namespaces/{cluster.namespace}-keys/secrets/master-key"
    )
    return base64.b64decode(secret["data"]["key"]).decode()


def exported(directory: Path, master: bytes) -> str:
    path = directory / f"{keys.fingerprint(master)}.json"
    path.write_text(keys.export_key(master, {"default": "id"}).model_dump_json(by_alias=True))
    return str(path)


def test_key_export(cluster: Cluster, tmp_path: Path) -> None:
    assert "there is no key in namespace" in error(cluster.ararat("key", "export"))
    master = keys.new_master_key()
    store_key(cluster, master)
    cluster.location()
    path = tmp_path / "key.json"
    done = cluster.ararat("key", "export", "-o", str(path))
    assert ok(done) == ""
    assert keys.fingerprint(master) in done.stderr
    assert master.hex() not in done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    found = keys.read_export(path.read_bytes())
    assert found.master == master
    assert [(one.name, one.id) for one in found.locations] == [("default", "id-default")]
    assert keys.read_export(ok(cluster.ararat("key", "export")).encode()).master == master


def test_key_import(cluster: Cluster, tmp_path: Path) -> None:
    first, second = keys.new_master_key(), keys.new_master_key()
    said = ok(cluster.ararat("key", "import", exported(tmp_path, first)))
    assert said == (f"key {keys.fingerprint(first)} stored in namespace {cluster.namespace}-keys\n")
    assert stored_key(cluster) == first.hex()
    assert "was there already" in ok(cluster.ararat("key", "import", exported(tmp_path, first)))
    other = exported(tmp_path, second)
    said = error(cluster.ararat("key", "import", other))
    assert f"has another key, {keys.fingerprint(first)}: export it first" in said
    own = cluster.plane.api.get("/api/v1/namespaces/kube-system")["metadata"]["uid"]
    cluster.location()
    cluster.status("backuplocations", "default", owner=own)
    said = error(cluster.ararat("key", "import", other, "--replace"))
    assert f"key {keys.fingerprint(first)} stays: this cluster owns default" in said
    assert stored_key(cluster) == first.hex()
    cluster.status("backuplocations", "default", owner="another")
    assert "in place of the former" in ok(cluster.ararat("key", "import", other, "--replace"))
    assert stored_key(cluster) == second.hex()


def test_key_import_before_the_chart(cluster: Cluster, tmp_path: Path) -> None:
    path = exported(tmp_path, keys.new_master_key())
    said = error(cluster.ararat("key", "import", path, "-n", "nowhere"))
    assert said.startswith("namespace nowhere-keys does not exist: install Ararat first")


def key_secret(cluster: Cluster) -> str:
    return f"/api/v1/namespaces/{cluster.namespace}-keys/secrets/master-key"


def change_key_secret(cluster: Cluster, **data: bytes | None) -> None:
    """As the controller does in a rotation."""
    encoded = {
        name: None if key is None else base64.b64encode(key.hex().encode()).decode()
        for name, key in data.items()
    }
    cluster.plane.api.request(
        "PATCH", key_secret(cluster), body={"data": encoded}, content_type=MERGE
    )


def test_key_rotate(cluster: Cluster, tmp_path: Path) -> None:
    assert "no key" in error(cluster.ararat("key", "rotate", "-o", str(tmp_path / "k")))
    old = keys.new_master_key()
    store_key(cluster, old)
    cluster.location()
    assert "where to keep the new key" in error(cluster.ararat("key", "rotate"), code=2)
    path = tmp_path / "new.json"
    done = cluster.ararat("key", "rotate", "-o", str(path), "--no-wait")
    assert "the controller rotates the key" in ok(done)
    # Kept before the cluster knew it, and the present key is as it was.
    new = keys.read_export(path.read_bytes())
    assert path.stat().st_mode & 0o777 == 0o600
    assert [(one.name, one.id) for one in new.locations] == [("default", "id-default")]
    data = cluster.plane.api.get(key_secret(cluster))["data"]
    assert base64.b64decode(data["next"]).decode() == new.key
    assert stored_key(cluster) == old.hex()
    assert new.key not in done.stdout + done.stderr
    again = cluster.ararat("key", "rotate", "-o", str(tmp_path / "other.json"))
    assert "under way already" in error(again, code=2)
    assert not (tmp_path / "other.json").exists()

    waiting = cluster.start("key", "rotate")
    assert waiting.stderr is not None
    assert f"adding key {new.fingerprint}" in waiting.stderr.readline()
    change_key_secret(cluster, key=new.master, former=old, next=None)
    assert f"removing {keys.fingerprint(old)}" in waiting.stderr.readline()
    change_key_secret(cluster, former=None)
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert f"key {new.fingerprint} opens everything now" in out

    # Another cluster's new key, which is kept there; and what is stored is encrypted anew.
    theirs = keys.new_master_key()
    shared = exported(tmp_path, theirs)
    assert KEY_REENCRYPT not in cluster.plane.api.get(key_secret(cluster))["metadata"].get(
        "annotations", {}
    )
    ok(cluster.ararat("key", "rotate", "--reencrypt", "--to", shared, "--no-wait"))
    secret = cluster.plane.api.get(key_secret(cluster))
    assert base64.b64decode(secret["data"]["next"]).decode() == theirs.hex()
    assert KEY_REENCRYPT in secret["metadata"]["annotations"]
    change_key_secret(cluster, key=theirs, next=None)
    again = cluster.ararat("key", "rotate", "--reencrypt", "-o", str(tmp_path / "other.json"))
    assert "under way already" in error(again, code=2)
    waiting = cluster.start("key", "rotate")
    assert waiting.stderr is not None
    assert "encrypting everything anew" in waiting.stderr.readline()
    done_at_last = {"metadata": {"annotations": {KEY_REENCRYPT: None}}}
    cluster.plane.api.request("PATCH", key_secret(cluster), body=done_at_last, content_type=MERGE)
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert f"key {keys.fingerprint(theirs)} opens everything now" in out


def test_a_rotation_to_the_same_key_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    master = keys.new_master_key()
    store_key(cluster, master)
    said = error(cluster.ararat("key", "rotate", "--to", exported(tmp_path, master)))
    assert "key already" in said


def test_key_password_needs_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    master = keys.new_master_key()
    path = exported(tmp_path, master)
    directory = "repositories/volumes/wp/0123456789abcdef"
    wanted = keys.repository_password(master, "id", "volumes/wp/0123456789abcdef")

    def password(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = main.run(["key", "password", *arguments])
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    for arguments in (
        (directory,),
        (directory.removeprefix("repositories/") + "/",),
        (directory, "--location", "default"),
        (directory, "--location", "id"),
    ):
        assert ok(password(path, *arguments)) == f"{wanted}\n"
    other = keys.repository_password(master, "elsewhere", "volumes/wp/0123456789abcdef")
    assert ok(password(path, directory, "--location", "elsewhere")) == f"{other}\n"
    assert "not the directory of a repository" in error(password(path, "volumes/wp"))
    assert "DIRECTORY" in error(password(path), code=2)


# --- the cluster itself -----------------------------------------------------------------------


def test_version(cluster: Cluster) -> None:
    shown = yaml.safe_load(ok(cluster.ararat("version", "-o", "yaml")))
    assert shown["controller"] == "not installed"
    assert shown["kubernetes"].startswith("v1.")


def test_who_may_not_read_is_told_so(cluster: Cluster) -> None:
    kubeconfig = cluster.plane.user("nobody")
    said = error(cluster.ararat("backup", "get", "--kubeconfig", str(kubeconfig)))
    assert "nobody" in said
    assert "cannot list" in said


def test_a_server_that_does_not_answer(cluster: Cluster, tmp_path: Path) -> None:
    config = json.loads(cluster.plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    said = error(cluster.ararat("backup", "get", "--kubeconfig", str(path)))
    assert "127.0.0.1" in said


def test_a_cluster_without_ararat(cluster: Cluster) -> None:
    import ararat.cli.session as session

    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/restores.ararat.dev"
    before = cluster.plane.api.get(path)
    cluster.plane.api.request(
        "PATCH",
        path,
        body={"spec": {"versions": [{**before["spec"]["versions"][0], "served": False}]}},
        content_type=MERGE,
    )
    try:
        done = cluster.ararat("restore", "get")
        for _ in range(50):
            if done.returncode:
                break
            done = cluster.ararat("restore", "get")
        assert error(done) == session._NOT_INSTALLED
    finally:
        restored = {"spec": {"versions": before["spec"]["versions"]}}
        cluster.plane.api.request("PATCH", path, body=restored, content_type=MERGE)


@pytest.mark.parametrize("noun", ["backup", "restore", "location"])
def test_unknown_names(cluster: Cluster, noun: str) -> None:
    said = error(cluster.ararat(noun, "get", "unknown"))
    assert said.startswith(f"there is no {noun} 'unknown' in namespace {cluster.namespace}; ")
