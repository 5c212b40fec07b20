from __future__ import annotations

import string
from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ararat import gate
from ararat.api.backup import BackupVolumes, VolumePolicy
from ararat.api.manifest import Coverage
from ararat.api.names import BACKUP_VOLUMES, BACKUP_VOLUMES_EXCLUDES, EXCLUDE
from ararat.api.nodejob import ClaimReference, PodReference
from ararat.api.volumepolicy import UnmountedClaims
from ararat.errors import InvalidSpec
from controller.backup.volumes import (
    PlannedVolume,
    claims_of,
    owner_of,
    plan_volumes,
    requested,
    unknown_volumes,
)

from .samples import EMPTY_DIR, claim, of_claim, planned, pod, view

IN = BackupVolumes(default_policy=VolumePolicy.OPT_IN)
OUT = BackupVolumes(default_policy=VolumePolicy.OPT_OUT)


def outcome(volume: PlannedVolume) -> tuple[str, str, str]:
    return volume.id, volume.coverage.value, volume.reason


def outcomes(*args: Any, policy: BackupVolumes = IN, **kwargs: Any) -> list[tuple[str, str, str]]:
    return [outcome(v) for v in plan_volumes(view(*args, **kwargs), policy)]


def test_a_volume_that_is_asked_for() -> None:
    web = pod(
        volumes={"data": of_claim("data")},
        asked="data",
        owner=("StatefulSet", "web"),
        spec={"securityContext": {"fsGroup": 33}},
    )
    assert plan_volumes(view(web, claims=[claim("data")]), IN) == [
        PlannedVolume(
            pod=PodReference(namespace="wp", name="web-0", uid="uid-wp-web-0"),
            node="n1",
            volume="data",
            volume_type="persistentVolumeClaim",
            coverage=Coverage.BACKED_UP,
            claim=ClaimReference(name="data", uid="claim-data", volume_name="pv-data"),
            storage_class="fast",
            access_modes=("ReadWriteOnce",),
            capacity="2Gi",
            owner_kind="StatefulSet",
            owner_name="web",
            ordinal="0",
            fs_group=True,
        )
    ]


def test_files_are_left_out_by_pod_and_claim() -> None:
    web = pod(volumes={"data": of_claim("data"), "tmp": EMPTY_DIR}, asked="data,tmp")
    web["metadata"]["annotations"][EXCLUDE] = "*.tmp,cache/"
    data = claim("data")
    data["metadata"]["annotations"] = {EXCLUDE: "/log\n*.tmp"}
    planned = {v.volume: v.excludes for v in plan_volumes(view(web, claims=[data]), IN)}
    assert planned == {"data": ("*.tmp", "cache/", "/log"), "tmp": ("*.tmp", "cache/")}
    data["metadata"]["annotations"] = {EXCLUDE: "[a"}
    with pytest.raises(InvalidSpec, match=r"wp/data: annotation ararat\.dev/exclude") as caught:
        plan_volumes(view(web, claims=[data]), IN)
    assert caught.value.reason == "InvalidExclude"


@pytest.mark.parametrize("key", BACKUP_VOLUMES)
def test_every_spelling_of_the_annotation(key: str) -> None:
    web = pod(volumes={"data": EMPTY_DIR, "more": EMPTY_DIR})
    web["metadata"]["annotations"] = {key: " data , ,more"}
    assert requested(web) == {"data", "more"}


@pytest.mark.parametrize("key", BACKUP_VOLUMES_EXCLUDES)
def test_every_spelling_of_the_exclusion(key: str) -> None:
    web = pod(volumes={"data": of_claim("data")})
    web["metadata"]["annotations"] = {key: "data"}
    expected = [("wp/web-0/data", "Skipped", "Excluded")]
    assert outcomes(web, claims=[claim("data")], policy=OUT) == expected
    assert outcomes(web, claims=[claim("data")], policy=IN) == expected


def test_naming_a_volume_wins_over_excluding_it() -> None:
    web = pod(volumes={"data": EMPTY_DIR}, asked="data", excluded="data")
    assert outcomes(web, policy=OUT) == [("wp/web-0/data", "BackedUp", "")]


@pytest.mark.parametrize(
    ("source", "policy", "asked", "expected"),
    [
        (EMPTY_DIR, IN, False, ("Skipped", "NotRequested")),
        (EMPTY_DIR, IN, True, ("BackedUp", "")),
        (EMPTY_DIR, OUT, False, ("BackedUp", "")),
        (of_claim("data"), IN, False, ("Unprotected", "NotRequested")),
        (of_claim("data"), OUT, False, ("BackedUp", "")),
        ({"nfs": {"server": "s", "path": "/"}}, IN, False, ("Unprotected", "NotRequested")),
        ({"nfs": {"server": "s", "path": "/"}}, OUT, False, ("BackedUp", "")),
        ({"csi": {"driver": "d"}}, IN, True, ("BackedUp", "")),
        ({"hostPath": {"path": "/etc"}}, IN, False, ("Skipped", "HostPath")),
        ({"hostPath": {"path": "/etc"}}, OUT, False, ("Skipped", "HostPath")),
        ({"hostPath": {"path": "/etc"}}, IN, True, ("Failed", "HostPath")),
        ({"configMap": {"name": "c"}}, IN, True, ("Skipped", "NotFiles")),
        ({"ephemeral": {}}, IN, False, ("Skipped", "NotRequested")),
        ({"ephemeral": {}}, IN, True, ("Failed", "ClaimNotFound")),
        (of_claim("gone"), IN, True, ("Failed", "ClaimNotFound")),
    ],
)
def test_kinds_of_volumes(
    source: dict[str, Any], policy: BackupVolumes, asked: bool, expected: tuple[str, str]
) -> None:
    web = pod(volumes={"data": source}, asked="data" if asked else "")
    claims = [claim("data")] if source == of_claim("data") else []
    assert outcomes(web, claims=claims, policy=policy) == [("wp/web-0/data", *expected)]


@pytest.mark.parametrize("kind", ["secret", "configMap", "projected", "downwardAPI"])
@pytest.mark.parametrize("policy", [IN, OUT])
def test_configuration_that_nobody_asks_for_is_not_listed(kind: str, policy: BackupVolumes) -> None:
    assert outcomes(pod(volumes={"c": {kind: {}}}), policy=policy) == []


@pytest.mark.parametrize("policy", [IN, OUT])
def test_the_gate_of_a_restored_pod_is_not_the_users_volume(policy: BackupVolumes) -> None:
    assert outcomes(pod(volumes={gate.VOLUME: {"emptyDir": {}}}), policy=policy) == []


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"phase": "Pending"}, ("Failed", "PodNotRunning")),
        ({"phase": "Unknown"}, ("Failed", "PodNotRunning")),
        ({"terminating": True}, ("Failed", "PodTerminating")),
        ({"phase": "Succeeded"}, ("Unprotected", "PodFinished")),
        ({"phase": "Failed"}, ("Unprotected", "PodFinished")),
        ({"phase": "Succeeded", "terminating": True}, ("Unprotected", "PodFinished")),
        ({"unused": ["data"]}, ("Failed", "VolumeNotUsed")),
        # Its agent may be starting at this moment: the watchdog decides about that.
        ({"node": "without-agent"}, ("BackedUp", "")),
        ({"ready": False}, ("BackedUp", "")),
    ],
)
def test_pods_that_cannot_be_read(how: dict[str, Any], expected: tuple[str, str]) -> None:
    web = pod(volumes={"data": of_claim("data")}, asked="data", **how)
    assert outcomes(web, claims=[claim("data")]) == [("wp/web-0/data", *expected)]


def test_what_a_finished_pod_kept_for_itself_is_gone() -> None:
    web = pod(volumes={"tmp": EMPTY_DIR}, asked="tmp", phase="Succeeded")
    assert outcomes(web) == [("wp/web-0/tmp", "Skipped", "PodFinished")]


def test_what_nobody_uses_and_nobody_names_is_no_failure() -> None:
    web = pod(volumes={"data": of_claim("data"), "tmp": EMPTY_DIR}, unused=["data", "tmp"])
    assert outcomes(web, claims=[claim("data")], policy=OUT) == [
        ("wp/web-0/data", "Unprotected", "VolumeNotUsed"),
        ("wp/web-0/tmp", "Skipped", "VolumeNotUsed"),
    ]


@pytest.mark.parametrize(
    ("how", "volumes", "reason"),
    [
        ({"phase": "Pending"}, {}, "ClaimNotBound"),
        ({"phase": "Lost"}, {}, "ClaimNotBound"),
        ({"mode": "Block"}, {}, "BlockMode"),
        ({"mode": "Block", "phase": "Pending"}, {}, "BlockMode"),
        ({}, {"pv-data": {"spec": {"hostPath": {"path": "/x"}}}}, "HostPath"),
    ],
)
def test_claims_that_cannot_be_read(
    how: dict[str, Any], volumes: dict[str, Any], reason: str
) -> None:
    web = pod(volumes={"data": of_claim("data")}, asked="data")
    found = outcomes(web, claims=[claim("data", **how)], volumes=volumes)
    assert found == [("wp/web-0/data", "Failed", reason)]


def test_directories_of_the_node_are_read_where_the_administrator_listed_them() -> None:
    inline = {"hostPath": {"path": "/srv/data/a"}}
    web = pod(volumes={"dir": inline, "data": of_claim("data")}, asked="dir,data")
    pv = {"spec": {"hostPath": {"path": "/srv/data/pv"}}}
    looked = view(web, claims=[claim("data")], volumes={"pv-data": pv})

    def outcome(*allowed: str, policy: BackupVolumes = IN) -> dict[str, str]:
        seen = replace(looked, host_paths=tuple(map(PurePosixPath, allowed)))
        found = plan_volumes(seen, policy)
        return {v.volume: v.coverage.value for v in found}

    assert outcome("/srv/data") == {"data": "BackedUp", "dir": "BackedUp"}
    assert outcome("/srv/data/pv") == {"data": "BackedUp", "dir": "Failed"}
    assert outcome("/srv/dat") == {"data": "Failed", "dir": "Failed"}
    # Daemons mount directories of the node for other reasons: only a name means them.
    web["metadata"]["annotations"] = {}
    assert outcome("/srv/data", policy=OUT) == {"data": "BackedUp", "dir": "Skipped"}


@pytest.mark.parametrize(
    ("how", "volumes", "reason"),
    [
        ({"mode": "Block"}, {}, "BlockMode"),
        ({}, {"pv-data": {"spec": {"hostPath": {}}}}, "HostPath"),
    ],
)
def test_what_can_never_be_read_is_no_failure_where_nobody_named_it(
    how: dict[str, Any], volumes: dict[str, Any], reason: str
) -> None:
    web = pod(volumes={"data": of_claim("data")})
    found = outcomes(web, claims=[claim("data", **how)], volumes=volumes, policy=OUT)
    assert found == [("wp/web-0/data", "Skipped", reason)]


def policies(*rules: tuple[dict[str, Any], str], **more: Any) -> BackupVolumes:
    made = [{"conditions": conditions, "action": action} for conditions, action in rules]
    return BackupVolumes.model_validate({"policies": made, **more})


BIG, FAST = {"size": {"min": "1Gi"}}, {"storageClasses": ["fa*"]}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        # The first that fits decides, before the default policy.
        ([(FAST, "Backup")], ("BackedUp", "")),
        ([(FAST, "Skip"), (BIG, "Backup")], ("Skipped", "SkippedByPolicy")),
        ([({"storageClasses": ["slow"]}, "Skip"), (BIG, "Backup")], ("BackedUp", "")),
        ([({}, "Skip")], ("Skipped", "SkippedByPolicy")),
        # All conditions of a rule must hold.
        ([({**FAST, "csiDrivers": ["other"]}, "Backup")], ("Unprotected", "NotRequested")),
        ([({**FAST, "csiDrivers": ["d"]}, "Backup")], ("BackedUp", "")),
        ([({"size": {"min": "1Gi", "max": "2Gi"}}, "Backup")], ("BackedUp", "")),
        ([({"size": {"max": "2047Mi"}}, "Backup")], ("Unprotected", "NotRequested")),
        ([({"volumeTypes": ["csi"]}, "Backup")], ("BackedUp", "")),
        ([({"volumeTypes": ["persistentVolumeClaim"]}, "Backup")], ("BackedUp", "")),
        ([({"volumeTypes": ["nfs", "emptyDir"]}, "Backup")], ("Unprotected", "NotRequested")),
        ([({"claimLabels": {"matchLabels": {"tier": "db"}}}, "Backup")], ("BackedUp", "")),
        (
            [({"claimLabels": {"matchLabels": {"tier": "x"}}}, "Backup")],
            ("Unprotected", "NotRequested"),
        ),
    ],
)
def test_policies(rules: list[tuple[dict[str, Any], str]], expected: tuple[str, str]) -> None:
    web = pod(volumes={"data": of_claim("data")})
    volumes = {"pv-data": {"spec": {"csi": {"driver": "d"}, "capacity": {}}}}
    mine = claim("data", labels={"tier": "db"})
    (found,) = outcomes(web, claims=[mine], volumes=volumes, policy=policies(*rules))
    assert found[1:] == expected


def test_annotations_go_before_policies_and_policies_before_the_default() -> None:
    web = pod(
        volumes={"named": of_claim("a"), "excluded": of_claim("b"), "other": of_claim("c")},
        asked="named",
        excluded="excluded",
    )
    claims = [claim("a"), claim("b"), claim("c")]
    assert outcomes(web, claims=claims, policy=policies(({}, "Skip"), defaultPolicy="OptOut")) == [
        ("wp/web-0/excluded", "Skipped", "Excluded"),
        ("wp/web-0/named", "BackedUp", ""),
        ("wp/web-0/other", "Skipped", "SkippedByPolicy"),
    ]
    assert outcomes(web, claims=claims, policy=policies(({}, "Backup"))) == [
        ("wp/web-0/excluded", "Skipped", "Excluded"),
        ("wp/web-0/named", "BackedUp", ""),
        ("wp/web-0/other", "BackedUp", ""),
    ]


def test_a_policy_for_volumes_of_pods() -> None:
    web = pod(volumes={"tmp": EMPTY_DIR, "data": of_claim("data")})
    rules = policies(({"volumeTypes": ["emptyDir"]}, "Skip"), defaultPolicy="OptOut")
    assert outcomes(web, claims=[claim("data")], policy=rules) == [
        ("wp/web-0/data", "BackedUp", ""),
        ("wp/web-0/tmp", "Skipped", "SkippedByPolicy"),
    ]


def helped(*args: Any, **kwargs: Any) -> list[tuple[str, str, str, bool]]:
    policy = kwargs.pop("policy", BackupVolumes(unmounted=UnmountedClaims.BACKUP))
    return [(*outcome(v), v.helper) for v in plan_volumes(view(*args, **kwargs), policy)]


@pytest.mark.parametrize(
    "pods",
    [
        [],
        [pod("job", volumes={"d": of_claim("data")}, phase="Succeeded")],
        [pod("job", volumes={"d": of_claim("data")}, phase="Failed", asked="d")],
        [pod("idle", volumes={"d": of_claim("data")}, unused=["d"], asked="d")],
    ],
)
def test_a_claim_that_no_pod_has_mounted_is_read_by_a_helper(pods: list[dict[str, Any]]) -> None:
    assert helped(*pods, claims=[claim("data")]) == [("wp/-/data", "BackedUp", "", True)]


@pytest.mark.parametrize("phase", ["Running", "Pending"])
def test_a_claim_that_a_pod_has_or_is_about_to_have_is_not(phase: str) -> None:
    web = pod(volumes={"data": of_claim("data")}, phase=phase)
    assert helped(web, claims=[claim("data")]) == [
        ("wp/web-0/data", "Unprotected", "NotRequested", False)
    ]


@pytest.mark.parametrize(
    ("how", "volumes", "reason"),
    [
        ({"phase": "Pending"}, {}, "ClaimNotBound"),
        ({"mode": "Block"}, {}, "BlockMode"),
        ({}, {"pv-data": {"spec": {"hostPath": {}}}}, "HostPath"),
        ({"labels": {"ararat.dev/exclude-from-backup": "true"}}, {}, "Excluded"),
    ],
)
def test_claims_that_a_helper_cannot_read_or_must_not(
    how: dict[str, Any], volumes: dict[str, Any], reason: str
) -> None:
    found = helped(claims=[claim("data", **how)], volumes=volumes)
    assert found == [("wp/-/data", "Skipped", reason, False)]


def test_a_policy_keeps_an_unmounted_claim_out() -> None:
    rules = policies((FAST, "Skip"), unmounted="Backup")
    assert helped(claims=[claim("data")], policy=rules) == [
        ("wp/-/data", "Skipped", "SkippedByPolicy", False)
    ]


def test_a_claim_of_pods_that_are_not_chosen_is_theirs() -> None:
    looked_at = replace(
        view(claims=[claim("data"), claim("other")]),
        mounted_by_others=frozenset({("wp", "data")}),
        chosen_claims=frozenset({("wp", "data")}),
    )
    found = plan_volumes(looked_at, BackupVolumes(unmounted=UnmountedClaims.BACKUP))
    assert [outcome(v) for v in found] == [
        ("wp/-/data", "Unprotected", "PodNotChosen"),
        ("wp/-/other", "Unprotected", "NotMounted"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"policies": [{"conditions": {"size": {"min": "2Gi", "max": "1Gi"}}, "action": "Skip"}]},
        {"policies": [{"conditions": {"size": {"min": "big"}}, "action": "Skip"}]},
        {"policies": [{"conditions": {}, "action": "Snapshot"}]},
        {"policies": [{"conditions": {}}]},
    ],
)
def test_policies_that_say_nothing_sensible_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BackupVolumes.model_validate(wrong)


def test_a_claim_that_is_labelled_to_stay_out() -> None:
    left_out = claim("data", labels={"ararat.dev/exclude-from-backup": "true"})
    web = pod(volumes={"data": of_claim("data")}, asked="data")
    assert outcomes(web, claims=[left_out]) == [("wp/web-0/data", "Skipped", "Excluded")]
    assert outcomes(claims=[left_out], policy=OUT) == [("wp/-/data", "Skipped", "Excluded")]


def test_a_claim_that_no_pod_mounts() -> None:
    assert plan_volumes(view(claims=[claim("data")]), OUT) == [
        PlannedVolume(
            pod=PodReference(namespace="wp", name="", uid=""),
            node="",
            volume="data",
            volume_type="persistentVolumeClaim",
            coverage=Coverage.UNPROTECTED,
            reason="NotMounted",
            message="no pod mounts claim data",
            claim=ClaimReference(name="data", uid="claim-data", volume_name="pv-data"),
            storage_class="fast",
            access_modes=("ReadWriteOnce",),
            capacity="2Gi",
        )
    ]


SHARED = {"data": of_claim("data")}


@pytest.mark.parametrize(
    ("others", "reader"),
    [
        # One asks, another can: what was asked for is read by the one that really has it.
        ([pod("a", volumes=SHARED, asked="data", phase="Pending"), pod("b", volumes=SHARED)], "b"),
        (
            [pod("a", volumes=SHARED, asked="data", phase="Succeeded"), pod("b", volumes=SHARED)],
            "b",
        ),
        ([pod("a", volumes=SHARED, asked="data", terminating=True), pod("b", volumes=SHARED)], "b"),
        (
            [
                pod("a", volumes=SHARED, asked="data", unused=["data"]),
                pod("b", volumes=SHARED, excluded="data"),
            ],
            "b",
        ),
        # A node whose agent is there goes before one whose agent is not, whoever asks.
        ([pod("a", volumes=SHARED, asked="data", node="n9"), pod("b", volumes=SHARED)], "b"),
        # Of equals the one that asks, then the ready one, then the first by name.
        ([pod("a", volumes=SHARED), pod("b", volumes=SHARED, asked="data", ready=False)], "b"),
        (
            [
                pod("a", volumes=SHARED, asked="data", ready=False),
                pod("b", volumes=SHARED, asked="data"),
            ],
            "b",
        ),
        ([pod("b", volumes=SHARED, asked="data"), pod("a", volumes=SHARED, asked="data")], "a"),
    ],
)
def test_a_claim_of_several_pods_is_read_once(others: list[dict[str, Any]], reader: str) -> None:
    assert outcomes(*others, claims=[claim("data")]) == [(f"wp/{reader}/data", "BackedUp", "")]


def test_a_claim_that_several_pods_mount_and_none_can_read_fails_once() -> None:
    found = outcomes(
        pod("a", volumes=SHARED, asked="data", phase="Succeeded"),
        pod("b", volumes=SHARED, phase="Pending"),
        claims=[claim("data")],
    )
    assert found == [("wp/b/data", "Failed", "PodNotRunning")]


def test_claims_of_the_same_name_in_two_namespaces_are_two() -> None:
    found = outcomes(
        pod("a", volumes=SHARED, asked="data"),
        pod("a", namespace="other", volumes=SHARED, asked="data"),
        claims=[claim("data"), claim("data", namespace="other")],
    )
    assert found == [("other/a/data", "BackedUp", ""), ("wp/a/data", "BackedUp", "")]


def test_a_claim_mounted_twice_by_one_pod_is_read_once() -> None:
    web = pod(volumes={"one": of_claim("data"), "two": of_claim("data")}, asked="two")
    assert outcomes(web, claims=[claim("data")]) == [("wp/web-0/two", "BackedUp", "")]


def test_misspelt_volumes_are_all_named() -> None:
    web = pod(volumes={"data": EMPTY_DIR, "tmp": EMPTY_DIR}, asked="dta,tmp", excluded="tmpp")
    with pytest.raises(InvalidSpec) as caught:
        plan_volumes(view(web, pod("ok", volumes={"data": EMPTY_DIR}, asked="data")), IN)
    assert caught.value.reason == "UnknownVolume"
    assert caught.value.message == (
        "pod wp/web-0: annotation ararat.dev/backup-volumes names volume 'dta', which the pod "
        "does not have (it has: data, tmp); pod wp/web-0: annotation "
        "ararat.dev/backup-volumes-excludes names volume 'tmpp', which the pod does not have "
        "(it has: data, tmp)"
    )
    assert len(unknown_volumes(web)) == 2


@pytest.mark.parametrize(
    ("made_by", "expected"),
    [
        (pod("solo"), ("", "", "")),
        (pod("db-12", owner=("StatefulSet", "db")), ("StatefulSet", "db", "12")),
        (
            pod(
                "web-5d4-x1",
                owner=("ReplicaSet", "web-5d4"),
                labels={"pod-template-hash": "5d4"},
            ),
            ("Deployment", "web", ""),
        ),
        (pod("rs-x1", owner=("ReplicaSet", "rs")), ("ReplicaSet", "rs", "")),
        (pod("j-x1", owner=("Job", "j")), ("Job", "j", "")),
    ],
)
def test_owners(made_by: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert owner_of(made_by) == expected


@pytest.mark.parametrize(
    ("volume", "host"),
    [
        (planned(claim=ClaimReference(name="data")), "cl/wp/pvc/data"),
        (
            planned("tmp", volume_type="emptyDir", owner_kind="Deployment", owner_name="web"),
            "cl/wp/pod/Deployment/web/0/tmp",
        ),
        (
            planned(
                "tmp",
                volume_type="ephemeral",
                claim=ClaimReference(name="web-0-tmp"),
                owner_kind="StatefulSet",
                owner_name="web",
                ordinal="3",
            ),
            "cl/wp/pod/StatefulSet/web/3/tmp",
        ),
        (planned("tmp", volume_type="emptyDir"), "cl/wp/pod/Pod/web-0/0/tmp"),
    ],
)
def test_the_identity_of_a_volume(volume: PlannedVolume, host: str) -> None:
    assert volume.host("cl") == host


def test_claims_of_a_pod() -> None:
    web = pod(volumes={"a": of_claim("x"), "e": {"ephemeral": {}}, "t": EMPTY_DIR})
    assert claims_of(web) == {"x", "web-0-e"}


# --- coverage never loses a volume --------------------------------------------------------------

_FILES = ("emptyDir", "ephemeral", "hostPath", "nfs", "csi", "persistentVolumeClaim")
_CONFIGURATION = ("secret", "configMap", "projected", "downwardAPI")
_letters = st.sampled_from(string.ascii_lowercase[:4])


@st.composite
def _pods(draw: st.DrawFn) -> dict[str, Any]:
    volumes: dict[str, Any] = {}
    for name in draw(st.lists(_letters, unique=True, max_size=4)):
        kind = draw(st.sampled_from(_FILES + _CONFIGURATION))
        source = {"claimName": draw(_letters)} if kind == "persistentVolumeClaim" else {}
        volumes[name] = {kind: source}
    some = st.lists(st.sampled_from(sorted(volumes)), unique=True) if volumes else st.just([])
    return pod(
        draw(st.sampled_from(["p", "q", "r", "s"])),
        namespace=draw(st.sampled_from(["wp", "shop"])),
        volumes=volumes,
        asked=",".join(draw(some)),
        excluded=",".join(draw(some)),
        unused=draw(some),
        phase=draw(st.sampled_from(["Running", "Pending", "Succeeded", "Failed"])),
        node=draw(st.sampled_from(["n1", "n2"])),
        ready=draw(st.booleans()),
        terminating=draw(st.booleans()),
    )


@st.composite
def _claims(draw: st.DrawFn) -> dict[str, Any]:
    return claim(
        draw(_letters),
        namespace=draw(st.sampled_from(["wp", "shop"])),
        phase=draw(st.sampled_from(["Bound", "Pending", "Lost"])),
        mode=draw(st.sampled_from(["Filesystem", "Block"])),
        labels={"ararat.dev/exclude-from-backup": "true"} if draw(st.booleans()) else {},
    )


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


@given(
    st.lists(_pods(), max_size=5, unique_by=_key),
    st.lists(_claims(), max_size=6, unique_by=_key),
    st.sampled_from([IN, OUT]),
)
def test_every_volume_and_every_claim_is_in_the_plan_exactly_once(
    pods: list[dict[str, Any]], claims: list[dict[str, Any]], policy: BackupVolumes
) -> None:
    plan = plan_volumes(view(*pods, claims=claims), policy)

    expected: set[tuple[str, ...]] = {("claim", *_key(c)) for c in claims}
    for one in pods:
        namespace, name = _key(one)
        for volume in one["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                expected.add(("claim", namespace, volume["persistentVolumeClaim"]["claimName"]))
            elif "ephemeral" in volume:
                expected.add(("claim", namespace, f"{name}-{volume['name']}"))
            elif not set(volume) & set(_CONFIGURATION) or volume["name"] in requested(one):
                expected.add(("volume", namespace, name, volume["name"]))

    sources = {(*_key(p), v["name"]): v for p in pods for v in p["spec"]["volumes"]}
    found = Counter[tuple[str, ...]]()
    for entry in plan:
        namespace, name = entry.pod.namespace, entry.pod.name
        source = sources.get((namespace, name, entry.volume), {})
        if entry.claim is not None:
            found["claim", namespace, entry.claim.name] += 1
        elif "persistentVolumeClaim" in source:
            found["claim", namespace, source["persistentVolumeClaim"]["claimName"]] += 1
        elif "ephemeral" in source:
            found["claim", namespace, f"{name}-{entry.volume}"] += 1
        else:
            found["volume", namespace, name, entry.volume] += 1

    assert found == Counter(expected)
    for entry in plan:
        # Whatever is not read says why; whatever is read can be.
        assert (entry.coverage is Coverage.BACKED_UP) == (entry.reason == "")
        if entry.coverage is Coverage.BACKED_UP:
            assert entry.node
            assert entry.pod.uid
        # What somebody names never silently counts as not asked for.
        assert entry.reason != "NotRequested" or not any(
            entry.volume in requested(p)
            for p in pods
            if _key(p) == (entry.pod.namespace, entry.pod.name)
        )


@given(st.lists(_pods(), max_size=5, unique_by=_key), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_the_listing(
    pods: list[dict[str, Any]], random: Any
) -> None:
    shuffled = list(pods)
    random.shuffle(shuffled)
    assert plan_volumes(view(*pods), OUT) == plan_volumes(view(*shuffled), OUT)
