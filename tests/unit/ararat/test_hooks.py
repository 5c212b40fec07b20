"""Hooks as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.api.hooks import ExecHook, OnError
from ararat.errors import InvalidSpec
from ararat.hooks import (
    Hook,
    When,
    backup_hook,
    from_spec,
    parse_command,
    parse_timeout,
)


def pod(**annotations: str) -> dict[str, Any]:
    named = {key.replace("__", "/"): text for key, text in annotations.items()}
    return {
        "metadata": {"namespace": "wp", "name": "db-0", "annotations": named},
        "spec": {"containers": [{"name": "db"}, {"name": "sidecar"}]},
    }


def annotated(prefix: str, **settings: str) -> dict[str, Any]:
    return pod(**{f"{prefix}/{key.replace('_', '-')}": text for key, text in settings.items()})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["fsfreeze", "-f", "/data"]', ("fsfreeze", "-f", "/data")),
        ('  ["a b"]', ("a b",)),
        ("/bin/freeze.sh", ("/bin/freeze.sh",)),
        ("echo hello world", ("echo hello world",)),  # one word: no shell splits it
    ],
)
def test_commands(text: str, words: tuple[str, ...]) -> None:
    assert parse_command(text) == words


@pytest.mark.parametrize("text", ["", "  ", "[", "[]", '["a", 1]', '[""]', '["a",]', "[" * 99999])
def test_commands_that_are_none(text: str) -> None:
    with pytest.raises(InvalidSpec):
        parse_command(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("2h", 7200), ("500ms", 0.5), ("1.5m", 90), ("1h0m5s", 3605)],
)
def test_timeouts(text: str, seconds: float) -> None:
    assert parse_timeout(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "0s", "soon", "1d", "30 s", "5s!"])
def test_timeouts_that_are_none(text: str) -> None:
    with pytest.raises(InvalidSpec):
        parse_timeout(text)


@given(st.text())
def test_any_text_is_a_hook_or_a_sentence(text: str) -> None:
    for parse in (parse_command, parse_timeout):
        try:
            parse(text)
        except InvalidSpec:
            continue


@pytest.mark.parametrize(
    "prefix",
    [
        "pre.hook.backup.ararat.dev",
        "pre.hook.backup.velero.io",
        "pre.hook.backup.ark.heptio.com",
        "hook.backup.velero.io",
        "hook.backup.ark.heptio.com",
    ],
)
def test_every_spelling_of_the_keys(prefix: str) -> None:
    written = annotated(
        prefix, command='["a"]', container="sidecar", timeout="1m", on_error="Continue"
    )
    assert backup_hook(written, When.PRE) == Hook("sidecar", ("a",), OnError.CONTINUE, 60.0)
    assert backup_hook(written, When.POST) is None
    post = prefix.replace("pre.", "post.")
    if post != prefix:
        written = annotated(post, command="a")
        assert backup_hook(written, When.POST) == Hook("db", ("a",), OnError.FAIL, 30.0)
        assert backup_hook(written, When.PRE) is None


def test_our_own_spelling_comes_first() -> None:
    written = pod(
        **{
            "pre.hook.backup.velero.io/command": "velero",
            "pre.hook.backup.velero.io/timeout": "9s",
            "pre.hook.backup.ararat.dev/command": "ararat",
        }
    )
    assert backup_hook(written, When.PRE) == Hook("db", ("ararat",))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"command": "[oops"}, "command: the command begins like a JSON array and is none"),
        ({"command": "a", "on_error": "fail"}, "on-error: 'fail' is neither Fail nor Continue"),
        ({"command": "a", "timeout": "30"}, "timeout: '30' is no span of time"),
        ({"command": "a", "container": "web"}, "container: the pod has no container 'web'"),
        ({"command": "a", "kommand": "b"}, "kommand: no such setting of a hook"),
        ({"timeout": "30s"}, "timeout: there is no pre.hook.backup.ararat.dev/command"),
    ],
)
def test_a_mistake_names_pod_and_annotation(settings: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        backup_hook(annotated("pre.hook.backup.ararat.dev", **settings), When.PRE)
    expected = f"pod wp/db-0: annotation pre.hook.backup.ararat.dev/{text}"
    assert caught.value.message.startswith(expected)
    assert caught.value.reason == "InvalidHook"


def test_a_mistake_does_not_quote_the_command() -> None:
    with pytest.raises(InvalidSpec) as caught:
        backup_hook(annotated("pre.hook.backup.velero.io", command='["hunter2"'), When.PRE)
    assert "hunter2" not in caught.value.message
    assert caught.value.__cause__ is None


def test_hooks_of_a_spec() -> None:
    hooks = [
        ExecHook(command=["a", "b"]),
        ExecHook(command=["c"], container="sidecar", on_error=OnError.CONTINUE, timeout="5s"),
    ]
    assert from_spec(pod(), hooks, name="mine") == (
        Hook("db", ("a", "b")),
        Hook("sidecar", ("c",), OnError.CONTINUE, 5.0),
    )
    with pytest.raises(InvalidSpec, match=r"hook mine for pod wp/db-0: .* no container 'x'"):
        from_spec(pod(), [ExecHook(command=["a"], container="x")], name="mine")
