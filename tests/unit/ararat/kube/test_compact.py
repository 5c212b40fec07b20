from __future__ import annotations

import json

from ararat.kube.compact import compact

TEXT = json.dumps(
    {
        "metadata": {"name": "a", "labels": {"ararat.dev/node": "n1"}, "managedFields": [{}]},
        "spec": {
            "excludes": ["*.tmp"],
            "node": "n1",
            "count": 10**12,
            "hold": False,
            "claim": None,
        },
        "status": {"message": "x" * 100},
    }
)


def test_nothing_is_lost_but_managed_fields() -> None:
    expected = json.loads(TEXT)
    del expected["metadata"]["managedFields"]
    assert compact(json.loads(TEXT)) == expected


def test_words_are_shared() -> None:
    one, two = compact(json.loads(TEXT)), compact(json.loads(TEXT))
    for left, right in zip(one["spec"], two["spec"], strict=True):
        assert left is right
    assert one["spec"]["node"] is two["metadata"]["labels"]["ararat.dev/node"]
    assert one["spec"]["excludes"][0] is two["spec"]["excludes"][0]
    assert one["status"]["message"] is not two["status"]["message"]
    one["spec"]["excludes"].append("more")  # lists and dicts are not
    assert two["spec"]["excludes"] == ["*.tmp"]
