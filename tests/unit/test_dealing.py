from __future__ import annotations

from tests.component.dealing import directory_of, next_directory


def test_a_worker_stays_where_it_is():
    assert next_directory(["a", "b", "b"], mine="b", others={"b"}) == "b"


def test_then_it_goes_where_nobody_is():
    assert next_directory(["a", "b", "b"], mine="x", others={"b"}) == "a"
    assert next_directory(["a", "b", "b"], mine=None, others=set()) == "a"


def test_then_where_most_is_left():
    assert next_directory(["a", "b", "b"], mine="x", others={"a", "b"}) == "b"


def test_a_file_is_of_its_directory():
    assert directory_of("tests/component/kube/test_client.py") == "tests/component/kube"
