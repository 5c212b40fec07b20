"""From what people type to what the models hold. Pure.

Everything here raises typer.BadParameter, which ends in one line on stderr and exit code 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from ararat.naming import LABEL_LIMIT, is_dns_label, is_object_name

if TYPE_CHECKING:
    from ararat.api.selector import LabelSelector

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
)
_SET_BASED = re.compile(r"^(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUALITY = re.compile(r"^(?P<key>[^\s=!]+)\s*(?P<operator>==|=|!=)\s*(?P<value>\S*)$")
_NAME_RULE = "lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"


def words(values: Iterable[str]) -> list[str]:
    """``["a,b", "c"]`` → ``["a", "b", "c"]``: options may be repeated or hold comma lists."""
    parts = [part.strip() for value in values for part in value.split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def object_name(name: str, *, kind: str) -> str:
    """``name`` itself where Kubernetes takes it."""
    if not is_object_name(name):
        raise typer.BadParameter(f"{name!r} cannot be the name of a {kind}: use {_NAME_RULE}")
    return name


def mapping(values: Iterable[str], *, option: str) -> dict[str, str]:
    """``["a:b,c:d"]`` → ``{"a": "b", "c": "d"}``."""
    result: dict[str, str] = {}
    for pair in words(values):
        old, colon, new = (part.strip() for part in pair.partition(":"))
        if not (old and colon and new) or ":" in new:
            raise typer.BadParameter(f"{option} takes OLD:NEW, not {pair!r}")
        if result.get(old, new) != new:
            raise typer.BadParameter(f"{option} maps {old} twice: to {result[old]} and to {new}")
        result[old] = new
    return result


def namespace_mapping(values: Iterable[str]) -> dict[str, str]:
    """As ``mapping``; both sides are names of namespaces, and no two become one."""
    option = "--namespace-mappings"
    result = mapping(values, option=option)
    for name in (*result, *result.values()):
        if not is_dns_label(name):
            raise typer.BadParameter(f"{option}: {name!r} cannot be the name of a namespace")
    targets = list(result.values())
    for target in targets:
        if targets.count(target) > 1:
            raise typer.BadParameter(f"{option} maps two namespaces to {target}")
    return result


def image_mapping(values: Iterable[str]) -> dict[str, str]:
    """As ``mapping``, and ``OLD=NEW`` for names that hold a colon themselves."""
    option = "--image-mappings"
    result: dict[str, str] = {}
    for pair in words(values):
        old, sign, new = (part.strip() for part in pair.partition("=" if "=" in pair else ":"))
        if not (old and sign and new) or (sign == ":" and ":" in new):
            raise typer.BadParameter(
                f"{option} takes OLD:NEW, or OLD=NEW where a name holds a ':', not {pair!r}"
            )
        if result.get(old, new) != new:
            raise typer.BadParameter(f"{option} maps {old} twice: to {result[old]} and to {new}")
        result[old] = new
    return result


def tristate(value: str | None, *, option: str) -> bool | None:
    """``true`` and ``false``, and None for what was not said."""
    if value is None:
        return None
    try:
        return {"true": True, "false": False}[value.lower()]
    except KeyError:
        raise typer.BadParameter(f"{option} takes true or false, not {value!r}") from None


def span(text: str | None, *, option: str) -> str | None:
    """``text`` itself where it is a span of time."""
    from ararat import duration
    from ararat.errors import InvalidSpec

    if text is not None:
        try:
            duration.parse(text)
        except InvalidSpec as error:
            raise typer.BadParameter(f"{option}: {error.message}") from error
    return text


def selector(text: str | None) -> LabelSelector | None:
    """A selector as kubectl takes it: ``app=web,tier!=db,env in (a,b),!canary``."""
    if text is None:
        return None
    from ararat.api.selector import LabelSelector

    labels: dict[str, str] = {}
    expressions: list[dict[str, Any]] = []
    for part in _requirements(text):
        if found := _SET_BASED.match(part):
            values = [value.strip() for value in found["values"].split(",")]
            operator = "In" if found["operator"] == "in" else "NotIn"
            expressions.append(_expression(text, found["key"], operator, values))
        elif found := _EQUALITY.match(part):
            key, value = found["key"], found["value"]
            if found["operator"] == "!=":
                expressions.append(_expression(text, key, "NotIn", [value]))
            else:
                _expression(text, key, "In", [value])
                if labels.setdefault(key, value) != value:
                    raise typer.BadParameter(f"selector {text!r} wants two values of {key}")
        elif part.startswith("!"):
            expressions.append(_expression(text, part[1:].strip(), "DoesNotExist", []))
        else:
            expressions.append(_expression(text, part, "Exists", []))
    return LabelSelector.model_validate({"matchLabels": labels, "matchExpressions": expressions})


def selectors(texts: Iterable[str] | None, *, beside: str | None) -> list[LabelSelector]:
    """Those of ``--or-selector``; ``beside`` is what ``--selector`` says."""
    found = [made for text in texts or () if (made := selector(text)) is not None]
    if found and beside is not None:
        raise typer.BadParameter("give --selector or --or-selector, not both")
    return found


def derived_restore_name(backup: str, now: datetime, *, dry_run: bool = False) -> str:
    """``mybackup-20261122213045``, cut so that it stays a name."""
    stamp = now.strftime("%Y%m%d%H%M%S") + ("-dry-run" if dry_run else "")
    return f"{backup[: 253 - len(stamp) - 1].rstrip('.-')}-{stamp}"


def _requirements(text: str) -> list[str]:
    """Parts between commas that stand outside parentheses."""
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)]
    if not all(parts):
        raise typer.BadParameter(
            f"selector {text!r} has an empty part; write it as app=web,tier=db"
        )
    return parts


def _expression(text: str, key: str, operator: str, values: list[str]) -> dict[str, Any]:
    name = key.rpartition("/")[2]
    if not _LABEL_KEY.fullmatch(key) or len(name) > LABEL_LIMIT:
        raise typer.BadParameter(
            f"selector {text!r}: {key!r} is no label key; write it as app=web,tier!=db"
        )
    for value in values:
        if not _LABEL_VALUE.fullmatch(value) or len(value) > LABEL_LIMIT:
            raise typer.BadParameter(f"selector {text!r}: {value!r} is no label value")
    return {"key": key, "operator": operator, "values": values}
