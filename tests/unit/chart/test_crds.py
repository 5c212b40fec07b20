"""The CRDs in the chart are the models in ararat.api, in the form the API server wants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from ararat.api import API_VERSION, GROUP, KINDS, VERSION, Backup, BackupLocation, Restore
from tools import crds

KIND_IDS = [kind.KIND for kind in KINDS]
META = {"name": "x", "namespace": "ararat", "uid": "u"}


def schema_of(kind: Any) -> dict[str, Any]:
    version = crds.definition(kind)["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for child in schema.get("properties", {}).values():
        yield from nodes(child)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])


def test_files_equal_the_models():
    found = {path.name: path.read_text() for path in crds.DIRECTORY.glob("*")}
    assert found == crds.files(), "run: python -m tools.crds"


@pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
def test_every_field_has_a_description(kind):
    assert list(crds.undescribed(schema_of(kind))) == []
    assert schema_of(kind)["description"]


@pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
def test_metadata_is_left_to_the_api_server(kind):
    """A description there makes the API server refuse the whole definition."""
    assert schema_of(kind)["properties"]["metadata"] == {"type": "object"}


@pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
def test_schema_is_structural(kind):
    for node in nodes(schema_of(kind)):
        assert isinstance(node["type"], str), node
        assert not {"$ref", "$defs", "anyOf", "allOf", "title"} & node.keys()
        if node["type"] == "object" and "properties" in node:
            assert "additionalProperties" not in node
        if node["type"] == "array":
            assert "items" in node
        for required in node.get("required", []):
            assert "default" not in node["properties"][required]


@pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
def test_no_defaults_in_status(kind):
    status = schema_of(kind)["properties"]["status"]
    assert [node for node in nodes(status) if "default" in node] == []


@pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
def test_defaults_fit_their_own_schema(kind):
    for node in nodes(schema_of(kind)):
        if "default" in node:
            jsonschema.validate(node["default"], node)


@pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
def test_names_columns_and_status_subresource(kind):
    crd = crds.definition(kind)
    assert crd["metadata"]["name"] == f"{kind.PLURAL}.{GROUP}"
    names = crd["spec"]["names"]
    assert (names["kind"], names["plural"]) == (kind.KIND, kind.PLURAL)
    assert names.get("shortNames", []) == list(kind.SHORT_NAMES)
    (version,) = crd["spec"]["versions"]
    assert version["name"] == VERSION
    assert version["subresources"] == {"status": {}}
    columns = version["additionalPrinterColumns"]
    assert "Age" in [column["name"] for column in columns]
    for column in columns:
        node: dict[str, Any] = schema_of(kind)
        for part in column["jsonPath"].strip(".").split("."):
            if part == "metadata":
                break
            node = node["properties"][part]
        else:
            shown = "string" if column["type"] == "date" else column["type"]
            assert node["type"] == shown, column


def test_short_names_and_plurals_do_not_collide():
    taken = [name for kind in KINDS for name in (*kind.SHORT_NAMES, kind.PLURAL, kind.KIND.lower())]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize(
    "resource",
    [
        Backup.model_validate({"metadata": META, "spec": {}, "status": {}}),
        Restore.model_validate({"metadata": META, "spec": {"backup": "b"}, "status": {}}),
        BackupLocation.model_validate(
            {"metadata": META, "spec": {"filesystem": {"path": "/x"}}, "status": {}}
        ),
    ],
    ids=["Backup", "Restore", "BackupLocation"],
)
def test_what_the_models_write_is_valid(resource):
    raw = {**resource.manifest(), "status": resource.status.to_dict()}
    assert raw["apiVersion"] == API_VERSION
    jsonschema.validate(raw, schema_of(type(resource)))


def test_defaults_of_models_and_crd_agree():
    """What the API server fills into an empty spec is what the model fills in."""
    spec = schema_of(Backup)["properties"]["spec"]
    assert apply_defaults({}, spec) == {
        "volumes": {"defaultPolicy": "OptIn", "unmounted": "Skip", "excludeCaches": True},
        "deadlines": {"noProgressSeconds": 900},
        "hooks": {"maxFreezeSeconds": 600},
        "pinned": False,
        "cancel": False,
    }
    for kind, minimal in ((Backup, {}), (Restore, {"backup": "b"})):
        filled = apply_defaults(dict(minimal), schema_of(kind)["properties"]["spec"])
        assert parsed_spec(kind, filled) == parsed_spec(kind, minimal)


def test_optional_objects_have_no_default():
    azure = schema_of(BackupLocation)["properties"]["spec"]["properties"]["azure"]
    assert "default" not in azure
    assert azure["properties"]["authentication"]["default"] == "WorkloadIdentity"


def test_bounds_patterns_and_enums_are_kept():
    spec = schema_of(BackupLocation)["properties"]["spec"]["properties"]
    assert spec["filesystem"]["properties"]["path"]["pattern"] == "^/"
    assert spec["syncPeriodSeconds"]["minimum"] == 5
    assert spec["accessMode"]["enum"] == ["ReadWrite", "ReadOnly"]
    labels = schema_of(Backup)["properties"]["spec"]["properties"]["labelSelector"]
    assert labels["properties"]["matchLabels"]["additionalProperties"] == {"type": "string"}


def test_files_are_plain_yaml():
    for text in crds.files().values():
        (document,) = yaml.safe_load_all(text)
        assert document["kind"] == "CustomResourceDefinition"


def test_check_reports_what_is_stale(tmp_path, monkeypatch, capsys):
    directory = tmp_path / "charts" / "ararat" / "crds"
    monkeypatch.setattr(crds, "DIRECTORY", directory)
    monkeypatch.setattr("sys.argv", ["crds"])
    assert crds.main() == 0
    (directory / "old.yaml").write_text("x")
    (directory / "backups.yaml").write_text("y")
    monkeypatch.setattr("sys.argv", ["crds", "--check"])
    assert crds.main() == 1
    assert capsys.readouterr().err.count("out of date") == 2
    monkeypatch.setattr("sys.argv", ["crds"])
    assert crds.main() == 0
    assert {path.name for path in directory.iterdir()} == set(crds.files())


def parsed_spec(kind: Any, spec: dict[str, Any]) -> Any:
    return kind.parse({"metadata": META, "spec": spec}).spec


def apply_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """As the API server does: parents first, then into what is there."""
    if schema["type"] == "object" and isinstance(value, dict):
        for name, field in schema.get("properties", {}).items():
            if name not in value and "default" in field:
                value[name] = dict(field["default"]) if field["default"] == {} else field["default"]
            if name in value:
                value[name] = apply_defaults(value[name], field)
    if schema["type"] == "array" and isinstance(value, list):
        return [apply_defaults(item, schema["items"]) for item in value]
    return value
