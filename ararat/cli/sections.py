"""Parts that the descriptions of backups and restores share. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ararat.api.backup import Failure, Selection
from ararat.api.base import Condition
from ararat.api.selector import LabelSelector
from ararat.cli import render


def failure(item: Failure) -> str:
    """``wp/mariadb-0/data: the volume could not be read``."""
    return f"{item.object}: {item.message or item.reason}"


def failures(items: Sequence[Failure], count: int) -> str:
    return render.section(
        "Failures:", render.bullets([*(failure(item) for item in items), *_more(items, count)])
    )


def warnings(items: Sequence[str], count: int) -> str:
    return render.section("Warnings:", render.bullets([*items, *_more(items, count)]))


def conditions(items: Sequence[Condition], now: datetime) -> str:
    rows = [
        (c.type, str(c.status), c.reason, render.age(c.last_transition_time, now), c.message)
        for c in items
    ]
    if not rows:
        return ""
    headers = ("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE")
    return render.section("Conditions:", render.table(headers, rows, indent="  "))


def selection(spec: Selection) -> list[tuple[str, str | None]]:
    """The part of a spec that Backup and Restore share."""
    cluster = spec.include_cluster_resources
    what = "those that the chosen ones need" if cluster is None else ("all" if cluster else "none")
    return [
        ("Namespaces", render.listing(spec.included_namespaces, empty="all")),
        ("Without namespaces", render.listing(spec.excluded_namespaces, empty="")),
        ("Kinds", render.listing(spec.included_resources, empty="all")),
        ("Without kinds", render.listing(spec.excluded_resources, empty="")),
        ("Labels", selector_text(spec.label_selector) if spec.label_selector else None),
        ("Any of labels", " or ".join(selector_text(s) for s in spec.or_label_selectors)),
        ("Cluster objects", what),
    ]


def selector_text(selector: LabelSelector) -> str:
    """``app=web,tier!=db``: as it was typed."""
    parts = [f"{key}={value}" for key, value in selector.match_labels.items()]
    for requirement in selector.match_expressions:
        values = ",".join(requirement.values)
        form = {
            "In": f"{requirement.key} in ({values})",
            "NotIn": f"{requirement.key} notin ({values})",
            "Exists": requirement.key,
            "DoesNotExist": f"!{requirement.key}",
        }
        parts.append(form[requirement.operator])
    return ",".join(parts)


def _more(items: Sequence[object], count: int) -> list[str]:
    return [f"and {count - len(items)} more"] if count > len(items) else []
