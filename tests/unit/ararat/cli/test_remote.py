"""What the controller shows, and how its errors arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from ararat.api.manifest import Manifest
from ararat.cli import backup, remote
from ararat.cli.settings import Settings
from ararat.errors import AraratError, NotFound
from ararat.kube import ApiUnavailable, ExecFailed, KubeApi, ResourceType
from tests.unit.ararat.cli.builders import END, START, backup_job, finished_backup

SETTINGS = Settings()
READY = [{"type": "Ready", "status": "True"}]
POD = {"metadata": {"name": "c-1"}, "status": {"phase": "Running", "conditions": READY}}


class Server:
    """The parts of KubeApi that are asked here."""

    def __init__(
        self,
        *,
        pods: Sequence[Any] = (POD,),
        output: Sequence[bytes] = (),
        failure: Exception | None = None,
        jobs: Sequence[Any] = (),
        stuck: bool = False,
    ) -> None:
        self.pods, self.output, self.failure, self.jobs = pods, output, failure, jobs
        self.stuck = stuck
        self.commands: list[Any] = []

    async def list(self, rt: ResourceType, **_: Any) -> AsyncIterator[Any]:
        for obj in self.pods if rt.plural == "pods" else self.jobs:
            yield obj

    async def exec_stream(
        self, namespace: str, pod: str, container: str, command: Sequence[str]
    ) -> AsyncIterator[bytes]:
        self.commands.append((namespace, pod, container, " ".join(command)))
        if self.stuck:
            await asyncio.Event().wait()
        for part in self.output:
            yield part
        if self.failure is not None:
            raise self.failure


def api(server: Server) -> KubeApi:
    return cast("KubeApi", server)


async def test_show_joins_what_comes_in_parts() -> None:
    server = Server(output=(b"one ", b"two"))
    assert await remote.show(api(server), SETTINGS, "backup-log", "b") == b"one two"
    command = "python -m controller show backup-log b"
    assert server.commands == [("ararat", "c-1", "controller", command)]


async def test_the_controllers_own_sentence_is_the_message() -> None:
    failure = ExecFailed("exec c-1: exit code 1: error: location default is Unavailable: gone")
    with pytest.raises(AraratError) as caught:
        await remote.show(api(Server(failure=failure)), SETTINGS, "manifest", "b")
    assert caught.value.message == "location default is Unavailable: gone"
    with pytest.raises(AraratError, match="no such container"):
        await remote.show(
            api(Server(failure=ExecFailed("no such container"))), SETTINGS, "manifest", "b"
        )


async def test_no_controller() -> None:
    with pytest.raises(NotFound, match="no controller is running in namespace ararat"):
        await remote.show(api(Server(pods=[])), SETTINGS, "manifest", "b")


async def test_a_controller_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SHOW_SECONDS", 0.01)
    with pytest.raises(ApiUnavailable, match="did not show the manifest of b within"):
        await remote.show(api(Server(stuck=True)), SETTINGS, "manifest", "b")


async def test_rows_of_a_finished_backup_come_from_its_manifest() -> None:
    manifest = Manifest.model_validate(
        {
            "backup": "mybackup",
            "backupUID": "u",
            "clusterUID": "c",
            "locationID": "l",
            "spec": {},
            "phase": "Completed",
            "startTime": START,
            "completionTime": END,
            "objects": {},
            "volumes": [
                {"namespace": "wp", "pod": "p", "volume": "v", "coverage": "Unprotected"},
            ],
        }
    )
    server = Server(output=(manifest.model_dump_json(by_alias=True).encode(),))
    rows, _ = await backup._rows(api(server), SETTINGS, finished_backup())
    assert [(row.id, row.result) for row in rows] == [("wp/p/v", "Unprotected")]


@pytest.mark.parametrize(
    "server", [Server(pods=[]), Server(output=(b"no JSON",))], ids=["no pod", "not a manifest"]
)
async def test_rows_come_from_node_jobs_otherwise(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    job = backup_job(phase="Completed")
    server.jobs = [
        {"metadata": {"name": "job"}, "spec": job.spec.to_dict(), "status": job.status.to_dict()}
    ]
    rows, _ = await backup._rows(api(server), SETTINGS, finished_backup())
    assert [row.id for row in rows] == ["wp/mariadb-0/data"]
    assert "warning: the manifest cannot be shown: " in capsys.readouterr().err


class Following(Server):
    """A controller that is lost once while its log is followed."""

    def __init__(self) -> None:
        super().__init__()
        self.leaders = ["c-1", "c-2"]

    async def get(self, rt: ResourceType, name: str, **_: Any) -> Any:
        assert (rt.plural, name) == ("leases", "ararat-controller")
        return {"spec": {"holderIdentity": self.leaders[0]}}

    async def exec_stream(
        self, namespace: str, pod: str, container: str, command: Sequence[str]
    ) -> AsyncIterator[bytes]:
        self.commands.append((pod, " ".join(command[3:])))
        if "--follow" not in command:
            yield b"one\ntwo\nthree\nend\n"
        elif pod == "c-1":
            yield b"one\ntw"
            yield b"o\ncut o"
            self.leaders.pop(0)
            raise ApiUnavailable("lost")
        else:
            yield b"two\nthree\n"


async def test_a_log_is_followed_over_the_end_of_a_controller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "FOLLOW_AGAIN_SECONDS", 0.01)
    server = Following()

    async def ended() -> bool:
        return len(server.commands) == 2

    lines = remote.follow_log(api(server), SETTINGS, "backup-log", "nightly", ended=ended)
    assert [line async for line in lines] == ["one", "two", "three", "end"]
    assert server.commands == [
        ("c-1", "show --follow backup-log nightly"),
        ("c-2", "show --follow backup-log nightly"),
        ("c-1", "show backup-log nightly"),
    ]
