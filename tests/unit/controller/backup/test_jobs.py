from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ararat.api import PodVolumeBackup
from ararat.api.nodejob import ClaimReference, PodReference, RepositoryReference
from ararat.naming import is_dns_label
from controller.backup.jobs import build_job, job_name

from .samples import backup, planned

REPOSITORY = RepositoryReference(
    location="default",
    location_id="l1",
    directory="repositories/volumes/wp/r1",
    key_id="k1",
    password_secret="s1",
)


def test_the_job_of_a_volume() -> None:
    asked = backup(spec={"deadlines": {"noProgressSeconds": 60}})
    volume = planned(claim=ClaimReference(name="data", uid="c1"), fs_group=True, node="n" * 70)
    made = build_job(asked, volume, namespace="ararat", cluster_uid="cl", repository=REPOSITORY)
    name = job_name(asked, volume)
    assert made["metadata"] == {
        "name": name,
        "namespace": "ararat",
        "labels": {
            "ararat.dev/node": made["metadata"]["labels"]["ararat.dev/node"],
            "ararat.dev/backup": "nightly",
            "ararat.dev/backup-uid": "uid-nightly",
        },
        "ownerReferences": [
            {
                "apiVersion": "ararat.dev/v1alpha1",
                "kind": "Backup",
                "name": "nightly",
                "uid": "uid-nightly",
                "controller": True,
            }
        ],
    }
    assert len(made["metadata"]["labels"]["ararat.dev/node"]) <= 63
    assert made["spec"] == {
        "backup": "nightly",
        "backupUID": "uid-nightly",
        "node": "n" * 70,
        "pod": {"namespace": "wp", "name": "web-0", "uid": "uid-1"},
        "volume": "data",
        "claim": {"name": "data", "uid": "c1", "volumeName": ""},
        "repository": {
            "location": "default",
            "locationID": "l1",
            "directory": "repositories/volumes/wp/r1",
            "keyID": "k1",
            "passwordSecret": "s1",
            "readOnly": False,
        },
        "host": "cl/wp/pvc/data",
        "ignoreCtime": True,
        "excludes": [],
        "excludeCaches": True,
        "noProgressSeconds": 60,
        "hold": False,
        "group": "",
        "replaces": "",
        "cancel": False,
    }
    assert PodVolumeBackup.parse(made).spec.claim == ClaimReference(name="data", uid="c1")


_name = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
_identity = st.tuples(_name, _name, st.uuids().map(str), _name)


def _name_of(identity: tuple[str, str, str, str]) -> str:
    backup_name, backup_uid, pod_uid, volume = identity
    pod = PodReference(namespace="wp", name="p", uid=pod_uid)
    return job_name(backup(backup_name, uid=backup_uid), planned(volume, pod=pod))


@given(_identity, _identity)
def test_names_of_jobs_are_stable_legal_and_do_not_collide(
    one: tuple[str, str, str, str], two: tuple[str, str, str, str]
) -> None:
    assert is_dns_label(_name_of(one))
    assert (_name_of(one) == _name_of(two)) == (one == two)
