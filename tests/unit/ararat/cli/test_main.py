"""The command line from outside: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import ararat
from ararat.cli import main, session
from ararat.errors import InvalidSpec
from ararat.kube import KindNotServed

COMMANDS = [
    ["backup", "create"],
    ["backup", "get"],
    ["backup", "describe"],
    ["backup", "logs"],
    ["backup", "wait"],
    ["backup", "cancel"],
    ["backup", "delete"],
    ["backup", "pin"],
    ["backup", "unpin"],
    ["restore", "create"],
    ["restore", "get"],
    ["restore", "describe"],
    ["restore", "logs"],
    ["restore", "wait"],
    ["restore", "cancel"],
    ["schedule", "create"],
    ["schedule", "get"],
    ["schedule", "describe"],
    ["schedule", "retention"],
    ["schedule", "pause"],
    ["schedule", "unpause"],
    ["schedule", "delete"],
    ["location", "create"],
    ["location", "get"],
    ["location", "take-over"],
    ["key", "export"],
    ["key", "import"],
    ["version"],
]


def dry_run(capsys, *arguments: str) -> dict[str, Any]:
    only = "--manifest" if arguments[0] == "restore" else "--dry-run"
    assert main.run([*arguments, only]) == 0, capsys.readouterr().err
    document = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


def refused(capsys, *arguments: str) -> str:
    """What is said on stderr; always one line, always exit code 2."""
    assert main.run(list(arguments)) == session.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return str(captured.err)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches_by_example(command, capsys):
    assert main.run([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"  ararat {' '.join(command)}" in text, "no example"
    assert "--namespace" in text
    assert "--kubeconfig" in text
    assert "--context" in text


def test_help_of_all(capsys):
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    for noun in ("backup", "restore", "location", "key", "version"):
        assert f"\n  {noun} " in text
    assert "3 partially failed" in text


def test_the_arks_own_spellings(capsys):
    document = dry_run(capsys, "backup", "create", "mybackup", "--include-namespaces", "wp", "-w")
    assert document["metadata"] == {"name": "mybackup", "namespace": "ararat"}
    assert document["spec"]["includedNamespaces"] == ["wp"]
    document = dry_run(capsys, "restore", "create", "myrestore", "--from-backup", "mybackup", "-w")
    assert document["metadata"]["name"] == "myrestore"
    assert document["spec"]["backup"] == "mybackup"
    document = dry_run(capsys, "restore", "create", "--from-backup", "mybackup")
    prefix, _, stamp = document["metadata"]["name"].rpartition("-")
    assert prefix == "mybackup"
    assert len(stamp) == 14
    assert stamp.isdigit()
    document = dry_run(capsys, "restore", "create", "--from-schedule", "nightly")
    assert document["spec"]["schedule"] == "nightly"
    assert "backup" not in document["spec"] or not document["spec"]["backup"]
    assert document["metadata"]["name"].startswith("nightly-")


def test_backup_flags(capsys):
    spec = dry_run(
        capsys,
        "backup",
        "create",
        "b",
        "--include-namespaces",
        "a,b",
        "--include-namespaces",
        "c",
        "--exclude-namespaces",
        "d",
        "--include-resources",
        "deploy",
        "--exclude-resources",
        "events,secrets",
        "-l",
        "app=web",
        "--include-cluster-resources",
        "false",
        "--default-volumes-to-fs-backup",
        "--storage-location",
        "far",
    )["spec"]
    assert spec == {
        "includedNamespaces": ["a", "b", "c"],
        "excludedNamespaces": ["d"],
        "includedResources": ["deploy"],
        "excludedResources": ["events", "secrets"],
        "labelSelector": {"matchLabels": {"app": "web"}},
        "includeClusterResources": False,
        "volumes": {"defaultPolicy": "OptOut", "unmounted": "Skip", "excludeCaches": True},
        "location": "far",
        "deadlines": {"noProgressSeconds": 900},
        "hooks": {"maxFreezeSeconds": 600},
        "pinned": False,
        "cancel": False,
    }


def test_one_label_or_the_other_and_what_comes_first(capsys):
    words = ("--or-selector", "app=web", "--or-selector", "app=db", "--ordered-resources", "cm,sts")
    spec = dry_run(capsys, "backup", "create", "b", *words)["spec"]
    labels = [one["matchLabels"]["app"] for one in spec["orLabelSelectors"]]
    assert (labels, spec["orderedResources"]) == (["web", "db"], ["cm", "sts"])
    template = dry_run(capsys, "schedule", "create", "s", "--cron", "@daily", *words)["spec"]
    assert template["template"]["orderedResources"] == ["cm", "sts"]


def test_a_star_means_all(capsys):
    spec = dry_run(capsys, "backup", "create", "b", "--include-namespaces", "*")["spec"]
    assert "includedNamespaces" not in spec


def test_restore_flags(capsys):
    spec = dry_run(
        capsys,
        "restore",
        "create",
        "--from-backup",
        "b",
        "--namespace-mappings",
        "wp:wp-copy,x:y",
        "--storage-class-mappings",
        "gp2:fast",
        "--allow-missing",
        "--existing-data",
        "merge",
        "--reuse-volumes",
        "--image-mappings",
        "docker.io:mirror.example,old:5000/team=new:443/team",
        "--existing-resource-policy",
        "update",
        "--preserve-nodeports",
        "--or-selector",
        "app=web",
        "--or-selector",
        "tier in (a,b)",
    )["spec"]
    assert spec["imageMapping"] == {"docker.io": "mirror.example", "old:5000/team": "new:443/team"}
    assert spec["existingResourcePolicy"] == "Update"
    assert spec["orLabelSelectors"][0]["matchLabels"] == {"app": "web"}
    assert spec["orLabelSelectors"][1]["matchExpressions"][0]["values"] == ["a", "b"]
    assert spec["preserveNodePorts"] is True
    assert spec["namespaceMapping"] == {"wp": "wp-copy", "x": "y"}
    assert spec["storageClassMapping"] == {"gp2": "fast"}
    assert spec["volumes"] == {
        "mode": "NewPod",
        "allowMissing": True,
        "reuse": True,
        "deleteExtra": False,
        "existingData": "Merge",
        "verify": "Sample",
        "scaleDown": False,
    }


def test_restore_in_place_flags(capsys):
    words = ("--volumes", "in-place", "--include", "wp/data,wp/more", "--path", "a b", "--yes")
    more = ("--delete-extra", "--scale-down", "--no-hooks")
    spec = dry_run(capsys, "restore", "create", "--from-backup", "b", *words, *more)
    assert spec["spec"]["hooks"]["skip"] is True
    assert spec["spec"]["volumes"] == {
        "mode": "InPlace",
        "include": ["wp/data", "wp/more"],
        "paths": ["a b"],
        "deleteExtra": True,
        "allowMissing": False,
        "reuse": False,
        "existingData": "Refuse",
        "verify": "Sample",
        "scaleDown": True,
    }


def test_location_flags(capsys, tmp_path):
    pem = tmp_path / "ca.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    spec = dry_run(
        capsys,
        "location",
        "create",
        "prod",
        "--azure-account",
        "acct",
        "--container",
        "backups",
        "--prefix",
        "eu",
        "--endpoint",
        "https://blob.test:1",
        "--authentication",
        "SAS",
        "--credentials-secret",
        "azure",
        "--access-tier",
        "Cool",
        "--ca-bundle",
        str(pem),
        "--access-mode",
        "ReadOnly",
        "--default",
    )["spec"]
    assert spec == {
        "azure": {
            "accountName": "acct",
            "container": "backups",
            "prefix": "eu",
            "endpoint": "https://blob.test:1",
            "authentication": "SAS",
            "credentialsSecret": "azure",
            "accessTier": "Cool",
            "caBundle": pem.read_text(),
        },
        "accessMode": "ReadOnly",
        "default": True,
        "syncPeriodSeconds": 60,
    }
    spec = dry_run(capsys, "location", "create", "nas", "--path", "/mnt/nas")["spec"]
    assert spec["filesystem"] == {"path": "/mnt/nas"}


def test_dry_run_prints_json_where_wanted(capsys, monkeypatch):
    monkeypatch.setenv("ARARAT_NAMESPACE", "elsewhere")
    assert main.run(["backup", "create", "b", "--dry-run", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["metadata"]["namespace"] == "elsewhere"
    assert main.run(["backup", "create", "b", "--dry-run", "-n", "here", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["namespace"] == "here"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("backup create My_Backup", "'My_Backup' cannot be the name of a backup"),
        ("backup create", "needs a NAME"),
        ("backup create b -l a=b,,c", "selector 'a=b,,c' has an empty part"),
        ("backup create b --include-cluster-resources maybe", "takes true or false, not 'maybe'"),
        ("backup create b --include-namespace wp", "No such option: --include-namespace"),
        ("backup get -o wide", "'wide'"),
        ("backup logs b -o yaml", "a log is printed as lines"),
        ("bakup get", "Did you mean 'backup'?"),
        ("restore create", "--from-backup, or --from-schedule"),
        ("restore create --from-backup b --from-schedule s", "--from-backup, or --from-schedule"),
        ("restore create --from-schedule S", "'S' cannot be the name of a schedule"),
        ("restore create R --from-backup b", "'R' cannot be the name of a restore"),
        ("restore create --from-backup B", "'B' cannot be the name of a backup"),
        ("restore create --from-backup b --namespace-mappings wp", "takes OLD:NEW, not 'wp'"),
        ("location create x", "say either --path, or --azure-account and --container"),
        ("location create x --path a --azure-account abc", "say either --path, or --azure"),
        ("location create x --azure-account abc", "--azure-account needs --container"),
        ("location create x --path relative", "filesystem.path"),
        (
            "location create x --azure-account abc --container abc --authentication SAS",
            "credentialsSecret is needed for SAS",
        ),
        ("location create x --path /a --access-mode Readonly", "accessMode"),
        ("location create x --azure-account abc --container abc --ca-bundle /nowhere", "/nowhere"),
        ("key import /nowhere/key.json", "/nowhere/key.json cannot be read"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, said, capsys):
    assert said in refused(capsys, *arguments.split())


def test_no_command_shows_help(capsys):
    assert main.run([]) == session.USAGE
    assert "First steps" in capsys.readouterr().err


def test_version_of_the_client_asks_no_cluster(capsys, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert main.run(["version", "--client"]) == 0
    assert capsys.readouterr().out == f"client:  {ararat.__version__}\n"


def test_no_cluster_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    assert main.run(["backup", "get"]) == session.FAILED
    error = capsys.readouterr().err
    assert error.startswith("error: cannot connect to a cluster with /nowhere/config")
    assert error.count("\n") == 1


def test_key_import_refuses_what_is_no_export(capsys, tmp_path):
    path = tmp_path / "key.json"
    path.write_text('{"key": "secret-text"}')
    assert main.run(["key", "import", str(path)]) == session.FAILED
    error = capsys.readouterr().err
    assert "not a file written by 'ararat key export'" in error
    assert "secret-text" not in error


def test_key_export_never_overwrites_and_is_private(tmp_path):
    import typer

    from ararat.cli import key

    path = tmp_path / "key.json"
    key._write_private(path, "x")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(typer.BadParameter, match="exists: choose another file"):
        key._write_private(path, "y")
    assert path.read_text() == "x"
    with pytest.raises(typer.BadParameter, match="cannot be written"):
        key._write_private(tmp_path / "no" / "key.json", "y")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InvalidSpec("one\nline"), "one line"),
        (
            KindNotServed("list backups.ararat.dev: the server could not find the resource"),
            "this cluster does not serve Ararat's kinds: install it",
        ),
        (TypeError("x"), "TypeError: x (this is a bug; ARARAT_DEBUG=1 shows where)"),
    ],
)
def test_errors_are_one_line(error, said):
    assert session.explain(error).startswith(said)


def test_help_starts_without_the_heavy_parts():
    """The Kubernetes client and the models cost half a second: --help must not pay for them."""
    import subprocess

    code = (
        "import sys; from ararat.cli import main; main.run(['backup', 'create', '--help']); "
        "print([m for m in ('kubernetes', 'aiohttp', 'ararat.api', 'rich', 'yaml', 'asyncio') "
        "if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"


def test_the_console_script_is_this_one():
    import tomllib

    root = Path(__file__).resolve().parents[4]
    scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"ararat": "ararat.cli.main:main"}
