from __future__ import annotations

from typing import Any

from ararat.api.plan import RestorePlan
from ararat.cli import plan_view


def planned(resource: str, name: str, action: str = "Create", **more: Any) -> dict[str, Any]:
    return {"resource": resource, "namespace": "wp", "name": name, "action": action, **more}


def plan(**fields: Any) -> RestorePlan:
    return RestorePlan.model_validate({"backup": "mybackup", "dryRun": True, **fields})


def test_a_dry_run_reads_from_top_to_bottom() -> None:
    made = plan(
        namespaces={"wp": "copy", "db": "db"},
        objects=[
            planned("pods", "done", "Skip", message="had ended (Succeeded)"),
            planned("pods", "done-2", "Skip", message="had ended (Succeeded)"),
            planned("configmaps", "a"),
            planned("configmaps", "b", "Update", differs=["data.x"]),
            planned("configmaps", "c", "LeaveAlone"),
            planned("pods", "web-0", gate=["data", "cache"]),
        ],
        volumes=[
            {
                "volume": "wp/data",
                "data": "Files",
                "bytes": 2048,
                "files": 1,
                "size": "1Gi",
                "storageClass": "new",
                "oldClass": "old",
            },
            {"volume": "wp/tmp", "data": "Empty", "size": "1Gi"},
            {"volume": "wp/kept", "data": "OwnVolume", "ownVolume": "pv-1"},
            {"volume": "wp/lost", "data": "Missing"},
        ],
        warnings=["look here"],
        failures=[{"object": "widgets wp/w", "reason": "KindNotServed", "message": "no kind"}],
        omitted={"configmaps": 10, "secrets": 3},
    )
    assert plan_view.dry_run(made).splitlines() == [
        "Restore of backup mybackup: this is what it would do; nothing was done.",
        "",
        "Namespaces under other names:",
        "  - wp as copy",
        "",
        "In this order:",
        "  KIND         CREATE   UPDATE   LEAVE   NAMES",
        "  configmaps   11       1        1       wp/a, wp/b, wp/c",
        "  pods         1        -        -       wp/web-0",
        "  secrets      3        -        -       -",
        "",
        "Volumes:",
        "  VOLUME    COMES BACK                            SIZE   CLASS",
        "  wp/data   2.0 KiB in 1 file                     1Gi    new (was old)",
        "  wp/tmp    empty                                 1Gi    -",
        "  wp/kept   on its own volume pv-1                -      -",
        "  wp/lost   held: the backup has no data for it   -      -",
        "",
        "Pods held until their volumes are filled:",
        "  - wp/web-0 for data, cache",
        "",
        "Existing, updated:",
        "  - configmaps wp/b: data.x",
        "",
        "Existing, left alone:",
        "  - 1 object as in the backup",
        "",
        "Not brought back:",
        "  - pods wp/done, wp/done-2: had ended (Succeeded)",
        "",
        "Warnings:",
        "  - look here",
        "",
        "Would fail:",
        "  - widgets wp/w: no kind",
    ]


def test_what_was_done_shows_outcomes_and_not_intentions() -> None:
    made = RestorePlan.model_validate(
        {
            "objects": [
                planned("configmaps", "a", outcome="Created"),
                planned("configmaps", "b", outcome="LeftAlone", differs=["data.x", "data.y"]),
                planned("configmaps", "c", outcome="Updated", differs=["data.z"]),
                planned("configmaps", "d", outcome="Failed", message="no"),
            ]
        }
    )
    assert plan_view.executed(made).splitlines() == [
        "",
        "Existing, updated:",
        "  - configmaps wp/c: data.z",
        "",
        "Existing, left alone:",
        "  - configmaps wp/b: data.x, data.y",
    ]


def test_long_lists_are_cut_and_say_so() -> None:
    left = [planned("configmaps", f"c{n}", "LeaveAlone", differs=["data"]) for n in range(60)]
    lines = plan_view.dry_run(plan(objects=left)).splitlines()
    assert sum(line.startswith("  - configmaps wp/c") for line in lines) == 40
    assert lines[-1] == "  - and 20 more (-o json shows all)"
