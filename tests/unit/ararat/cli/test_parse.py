from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from ararat.cli import parse
from ararat.cli.sections import selector_text
from ararat.naming import is_object_name


def selector(text: str) -> dict[str, object]:
    found = parse.selector(text)
    assert found is not None
    return found.to_dict()


def expression(key: str, operator: str, *values: str) -> dict[str, object]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (["a,b", "c"], ["a", "b", "c"]),
        ([" a , ,b", "a"], ["a", "b"]),
        ([","], []),
    ],
)
def test_words(values, expected):
    assert parse.words(values) == expected


@pytest.mark.parametrize("name", ["mybackup", "a.b-c", "0", "a" * 253])
def test_object_name_accepts(name):
    assert parse.object_name(name, kind="backup") == name


@pytest.mark.parametrize("name", ["", "MyBackup", "my_backup", "-a", "a-", "a..b", "a" * 254])
def test_object_name_refuses_and_says_why(name):
    with pytest.raises(typer.BadParameter, match="cannot be the name of a backup: use lower-case"):
        parse.object_name(name, kind="backup")


def test_mapping():
    assert parse.mapping(["a:b,c:d", "e:f", "a:b"], option="--x") == {"a": "b", "c": "d", "e": "f"}
    assert parse.mapping([], option="--x") == {}


@pytest.mark.parametrize("value", ["a", "a:", ":b", "a:b:c", "a=b"])
def test_mapping_names_the_option_and_the_form(value):
    with pytest.raises(typer.BadParameter, match=r"--x takes OLD:NEW, not"):
        parse.mapping([value], option="--x")


def test_mapping_refuses_two_answers():
    with pytest.raises(typer.BadParameter, match="maps a twice: to b and to c"):
        parse.mapping(["a:b", "a:c"], option="--x")


def test_namespace_mapping():
    assert parse.namespace_mapping(["wp:wp-copy"]) == {"wp": "wp-copy"}
    with pytest.raises(typer.BadParameter, match="'Wp' cannot be the name of a namespace"):
        parse.namespace_mapping(["wp:Wp"])
    with pytest.raises(typer.BadParameter, match="maps two namespaces to c"):
        parse.namespace_mapping(["a:c,b:c"])


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("true", True), ("False", False), ("TRUE", True)]
)
def test_tristate(value, expected):
    assert parse.tristate(value, option="--x") is expected


def test_tristate_refuses():
    with pytest.raises(typer.BadParameter, match="--x takes true or false, not 'maybe'"):
        parse.tristate("maybe", option="--x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app=web", {"matchLabels": {"app": "web"}, "matchExpressions": []}),
        ("app == web", {"matchLabels": {"app": "web"}, "matchExpressions": []}),
        ("app=", {"matchLabels": {"app": ""}, "matchExpressions": []}),
        (
            "app=web,ex.org/tier!=db",
            {
                "matchLabels": {"app": "web"},
                "matchExpressions": [expression("ex.org/tier", "NotIn", "db")],
            },
        ),
        (
            "env in (a, b),tier notin (c)",
            {
                "matchLabels": {},
                "matchExpressions": [
                    expression("env", "In", "a", "b"),
                    expression("tier", "NotIn", "c"),
                ],
            },
        ),
        (
            "canary, !old",
            {
                "matchLabels": {},
                "matchExpressions": [
                    expression("canary", "Exists"),
                    expression("old", "DoesNotExist"),
                ],
            },
        ),
    ],
)
def test_selector(text, expected):
    assert selector(text) == expected


def test_no_selector():
    assert parse.selector(None) is None


@pytest.mark.parametrize(
    "text", ["", ",", "a=b,,c=d", "a b", "a=b c", "=b", "a=*", "a in b", "a in (b", "a/b/c=d", "!"]
)
def test_selector_refuses(text):
    with pytest.raises(typer.BadParameter, match="selector"):
        parse.selector(text)


def test_selector_with_two_values_of_one_label():
    with pytest.raises(typer.BadParameter, match="wants two values of app"):
        parse.selector("app=a,app=b")


@pytest.mark.parametrize("text", ["app=web", "env in (a,b),tier notin (c),canary,!old"])
def test_selectors_are_shown_as_they_were_typed(text):
    found = parse.selector(text)
    assert found is not None
    assert selector_text(found) == text


def test_derived_restore_name():
    now = datetime(2026, 11, 22, 21, 30, 45, tzinfo=UTC)
    assert parse.derived_restore_name("mybackup", now) == "mybackup-20261122213045"


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,250}[a-z0-9])?", fullmatch=True))
def test_derived_names_are_names(backup):
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert is_object_name(parse.derived_restore_name(backup, now))
