"""Lines as restic 0.18.0 and 0.19.1 wrote them, and lines that it may write some day."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ararat.restic import messages


@pytest.mark.parametrize(
    "line",
    ["", "scan finished", "{broken", "[1, 2", "unlocking", "{}", "[]", "null", "42", '"text"'],
)
def test_what_is_no_message_is_none(line: str) -> None:
    assert messages.kind(messages.parse_message(line)) == ""


def test_unknown_types_and_fields_are_tolerated() -> None:
    message = messages.parse_message('{"message_type":"future","x":{"y":[1]}}')
    assert messages.kind(message) == "future"
    assert messages.backup_progress(message).bytes_done == 0
    assert messages.path_error(message, during="archival") is None


def test_progress_leaves_zeros_out() -> None:
    line = (
        '{"message_type":"status","seconds_elapsed":2,"percent_done":0.5,"total_files":10,'
        '"total_bytes":1000,"bytes_done":500,"current_files":["/a","/b"]}'
    )
    progress = messages.backup_progress(messages.parse_message(line))
    assert (progress.total_files, progress.files_done, progress.bytes_done) == (10, 0, 500)
    assert progress.current_files == ("/a", "/b")
    restoring = messages.restore_progress(
        messages.parse_message(
            '{"message_type":"status","total_files":9,"files_restored":3,"files_skipped":2,'
            '"total_bytes":90,"bytes_restored":30,"bytes_skipped":20}'
        )
    )
    assert (restoring.files_done, restoring.total_files) == (5, 11)
    assert (restoring.bytes_done, restoring.total_bytes) == (50, 110)


def test_a_summary() -> None:
    fields = messages.backup_summary(
        messages.parse_message(
            '{"message_type":"summary","files_new":1,"files_changed":2,"files_unmodified":3,'
            '"dirs_new":4,"data_added":100,"data_added_packed":60,"total_files_processed":6,'
            '"total_bytes_processed":1234,"total_duration":1.5,"snapshot_id":"x"}'
        )
    )
    assert fields["files_total"] == 6
    assert fields["bytes_added"] == 100
    assert fields["bytes_stored"] == 60
    assert fields["seconds"] == 1.5


def test_only_one_phase_counts_a_path() -> None:
    line = (
        '{"message_type":"error","error":{"message":"open: permission denied"},'
        '"during":"archival","item":"/data/secret"}'
    )
    found = messages.path_error(messages.parse_message(line), during="archival")
    assert found is not None
    assert (found.path, found.message) == ("/data/secret", "open: permission denied")
    scan = line.replace("archival", "scan")
    assert messages.path_error(messages.parse_message(scan), during="archival") is None


@pytest.mark.parametrize("error", ['{"message":"m"}', '"m"'])
def test_an_error_in_whatever_shape(error: str) -> None:
    line = f'{{"message_type":"error","error":{error},"during":"restore","item":"x"}}'
    found = messages.path_error(messages.parse_message(line), during="restore")
    assert found is not None
    assert found.message == "m"


def test_an_error_without_text() -> None:
    line = '{"message_type":"error","error":{},"during":"restore"}'
    found = messages.path_error(messages.parse_message(line), during="restore")
    assert found is not None
    assert found.message == "unknown error"


def test_its_own_end() -> None:
    line = '{"message_type":"exit_error","code":10,"message":"Fatal: repository does not exist"}'
    assert messages.exit_error(messages.parse_message(line)) == "Fatal: repository does not exist"
    assert messages.exit_error({}) is None


def test_snapshots() -> None:
    found = messages.snapshots(
        messages.parse(
            '[{"time":"2026-11-22T10:00:00.123456789+02:00","parent":"p","tree":"t",'
            '"paths":["/v"],"hostname":"h","tags":["a","job=1"],"id":"i","short_id":"s",'
            '"program_version":"restic 0.19.1","summary":{"files_new":5,"data_added_packed":7,'
            '"backup_start":"2026-11-22T10:00:00Z"}}]'
        )
    )
    (snapshot,) = found
    assert snapshot.time.astimezone(UTC) == datetime(2026, 11, 22, 8, 0, 0, 123456, tzinfo=UTC)
    assert snapshot.has_tag("job=1")
    assert not snapshot.has_tag("job")
    assert snapshot.summary is not None
    assert snapshot.summary.bytes_stored == 7
    assert messages.snapshots(None) == []
    assert messages.snapshots([]) == []


def test_old_snapshots_lack_much() -> None:
    (snapshot,) = messages.snapshots(
        [{"time": "2020-01-01T00:00:00Z", "id": "i", "tree": "t", "paths": None}]
    )
    assert snapshot.summary is None
    assert snapshot.tags == ()


def test_nodes_keys_and_stats() -> None:
    node = messages.node({"message_type": "node", "path": "/a", "type": "file", "size": 3})
    assert node is not None
    assert (node.path, node.size, node.modified) == ("/a", 3, None)
    assert messages.node({"message_type": "snapshot"}) is None
    (key,) = messages.keys(
        [{"current": True, "id": "k", "userName": "u", "hostName": "h", "created": "2026-01-01 "}]
    )
    assert key.current
    assert messages.repository_stats({"total_size": 5}).total_size == 5
    assert messages.snapshot_stats({"total_file_count": 2}).files == 2
    check = messages.check_result({"num_errors": 0, "broken_packs": None}, [])
    assert check.ok
    assert not messages.check_result({"num_errors": 0, "broken_packs": ["x"]}, []).ok


def test_a_comparison() -> None:
    change = messages.change(
        messages.parse_message('{"message_type":"change","path":"/a","modifier":"M","new":1}')
    )
    assert change is not None
    assert (change.path, change.modifier) == ("/a", "M")
    statistics = messages.parse_message(
        '{"message_type":"statistics","changed_files":2,"added":{"files":1,"bytes":10,"x":0}}'
    )
    assert messages.change(statistics) is None
    result = messages.diff_result(statistics, [change], count=7)
    assert (result.changed_files, result.added.files, result.added.bytes) == (2, 1, 10)
    assert (result.removed.files, result.change_count) == (0, 7)
    assert messages.diff_result({}, [], count=0).change_count == 0


@pytest.mark.parametrize("answer", [None, [], [3], [{}]])
def test_nothing_found_in_whatever_shape(answer: object) -> None:
    assert all(not found.matches for found in messages.found(answer))


def test_the_id_of_a_new_key_is_found_among_words() -> None:
    key = "ab" * 32
    assert messages.new_key_id(["", f"saved new key with ID {key}"]) == key
    assert messages.new_key_id([f"saved new key as <Key of a@b, created on x> {key}."]) == key
    assert messages.new_key_id(["saved new key with ID abcdef12"]) is None


def test_a_time_without_a_zone_is_the_childs() -> None:
    listed = messages.keys([{"id": "x", "created": "2026-11-23 01:24:03"}])
    assert listed[0].created == datetime(2026, 11, 23, 1, 24, 3, tzinfo=UTC)
