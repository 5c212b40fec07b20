"""CustomResourceDefinitions from the models in ararat.api: ``python -m tools.crds [--check]``.

Problem: the API server wants structural schemas (no ``$ref``, no ``anyOf`` with null), and two
hand-kept descriptions of one field drift apart.
Decision: pydantic's JSON schema is flattened here and written to the chart, one file per kind; a
test fails when the files and the models differ. Defaults are written into specs only: a default in
a status would come back after a merge patch that removed the field. Defaults that are empty (null,
``""``, ``[]``, ``{}``) are left out, so that stored objects show only what says something.
Limits: rules across fields (exactly one of azure and filesystem) are the models' business; the
controller puts them into a condition.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ararat.api import GROUP, KINDS, VERSION, Resource
from ararat.api.base import Model

DIRECTORY = Path(__file__).resolve().parent.parent / "charts" / "ararat" / "crds"
_HEADER = (
    "# Made by `python -m tools.crds` from ararat/api: change the models, then run it again.\n"
)
#: Keywords of a field that are taken over as they are.
_KEPT = ("pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "enum")
_NUMBER_FORMATS = {"integer": "int64", "number": "double"}
#: Lists that server-side apply merges by a key instead of replacing them.
_LIST_KEYS = {"conditions": "type"}
_AGE: dict[str, Any] = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def definition(kind: type[Resource[Any, Any]]) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    spec_model = kind.model_fields["spec"].annotation
    status_model = kind.model_fields["status"].annotation
    assert isinstance(spec_model, type)
    assert isinstance(status_model, type)
    names: dict[str, Any] = {
        "kind": kind.KIND,
        "listKind": f"{kind.KIND}List",
        "plural": kind.PLURAL,
        "singular": kind.KIND.lower(),
    }
    if kind.SHORT_NAMES:
        names["shortNames"] = list(kind.SHORT_NAMES)
    names["categories"] = ["ararat"]
    spec = _schema(spec_model, defaults=True)
    status = _schema(status_model, defaults=False)
    spec = {"description": "What is wanted.", **spec}
    status = {"description": "What Ararat observed; written by Ararat only.", **status}
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(kind),
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": _first_paragraph(kind.__doc__),
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string", "description": "Group and version."},
                    "kind": {"type": "string", "description": "Kind of the object."},
                    # The API server describes it, and refuses anything else here.
                    "metadata": {"type": "object"},
                    "spec": spec,
                    "status": status,
                },
            }
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def render(kind: type[Resource[Any, Any]]) -> str:
    """The text of one kind's file."""
    text = yaml.safe_dump(definition(kind), sort_keys=False, width=100, allow_unicode=True)
    return _HEADER + text


def files() -> dict[str, str]:
    """File name → text, for every kind."""
    return {f"{kind.PLURAL}.yaml": render(kind) for kind in KINDS}


def undescribed(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Paths of our fields below ``schema`` that have no description."""
    for name, field in schema.get("properties", {}).items():
        where = f"{path}.{name}"
        if not field.get("description") and where != ".metadata":
            yield where
        yield from undescribed(field, where)
    if "items" in schema:
        yield from undescribed(schema["items"], f"{path}[]")


def _columns(kind: type[Resource[Any, Any]]) -> list[dict[str, Any]]:
    columns: list[dict[str, Any]] = []
    for name, column_type, json_path, priority in kind.COLUMNS:
        column: dict[str, Any] = {"name": name, "type": column_type, "jsonPath": json_path}
        if priority:
            column["priority"] = priority
        columns.append(column)
    # Messages are long: they go last, where they push nothing out of sight.
    before_message = columns and columns[-1]["name"] == "Message"
    columns.insert(len(columns) - 1 if before_message else len(columns), _AGE)
    return columns


def _schema(model: type[Model], *, defaults: bool) -> dict[str, Any]:
    raw = model.model_json_schema(by_alias=True)
    return _flatten(raw, raw.get("$defs", {}), defaults=defaults)


def _flatten(node: Mapping[str, Any], defs: Mapping[str, Any], *, defaults: bool) -> dict[str, Any]:
    """A structural schema that means the same as ``node``.

    Raises ValueError for what has no structural form, such as a union of two types.
    """
    node = _resolve(node, defs)
    if "type" not in node:
        raise ValueError(f"no structural schema for {dict(node)}")
    result: dict[str, Any] = {"type": node["type"]}
    if "description" in node:
        result["description"] = _first_paragraph(node["description"])
    form = node.get("format") or _NUMBER_FORMATS.get(node["type"])
    if form:
        result["format"] = form
    result.update({key: copy.copy(node[key]) for key in _KEPT if key in node})
    if defaults and "default" in node:
        result.update(_default(node))
    if node["type"] == "array":
        result["items"] = _flatten(node["items"], defs, defaults=defaults)
    if node["type"] == "object":
        if "properties" in node:
            if node.get("required"):
                result["required"] = list(node["required"])
            result["properties"] = {
                name: _property(name, field, defs, defaults=defaults)
                for name, field in node["properties"].items()
            }
        else:
            values = node.get("additionalProperties", {"type": "string"})
            if values is True:  # a part of some other object, such as a container
                result["x-kubernetes-preserve-unknown-fields"] = True
            else:
                result["additionalProperties"] = _flatten(values, defs, defaults=defaults)
    return result


def _property(
    name: str, field: Mapping[str, Any], defs: Mapping[str, Any], *, defaults: bool
) -> dict[str, Any]:
    result = _flatten(field, defs, defaults=defaults)
    if name in _LIST_KEYS and result["type"] == "array":
        result["x-kubernetes-list-type"] = "map"
        result["x-kubernetes-list-map-keys"] = [_LIST_KEYS[name]]
    return result


def _resolve(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """``node`` with its reference, or the one non-null member of its anyOf, merged into it."""
    while True:
        if "$ref" in node:
            target = defs[node["$ref"].rpartition("/")[2]]
            node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
        elif "anyOf" in node or "allOf" in node:
            members = [*node.get("anyOf", ()), *node.get("allOf", ())]
            real = [member for member in members if member.get("type") != "null"]
            if len(real) != 1:
                raise ValueError(f"no structural schema for {dict(node)}")
            node = {**real[0], **{k: v for k, v in node.items() if k not in ("anyOf", "allOf")}}
        else:
            return node


def _default(node: Mapping[str, Any]) -> dict[str, Any]:
    value = node["default"]
    if "properties" in node:
        # An empty object takes the defaults of its fields, whatever they come to be.
        return {"default": {}} if value is not None else {}
    return {} if value in (None, "", [], {}) else {"default": value}


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def main() -> int:
    """Write the files; with ``--check`` only say whether they are up to date."""
    parser = argparse.ArgumentParser(description="Make the chart's CRDs from the models.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    check = parser.parse_args().check
    wanted = files()
    found = {path.name: path.read_text() for path in DIRECTORY.glob("*.yaml")}
    stale = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if check:
        for name in stale:
            sys.stderr.write(f"error: {DIRECTORY / name} is out of date; run: make crds\n")
        return 1 if stale else 0
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name in stale:
        path = DIRECTORY / name
        if name in wanted:
            path.write_text(wanted[name])
        else:
            path.unlink()
        sys.stdout.write(f"{path.relative_to(DIRECTORY.parents[2])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
