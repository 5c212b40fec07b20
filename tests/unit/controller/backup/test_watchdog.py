from __future__ import annotations

from controller.backup.watchdog import AGENT_NOT_READY_SECONDS, NO_AGENT_SECONDS, AgentWatchdog

ABSENT = {"n1": "node n1 has no agent: see kubectl get pods -o wide"}
UNREADY = {"n1": "the agent on node n1 has not been ready for 600 s"}


def test_a_node_without_agent_has_a_minute() -> None:
    dog = AgentWatchdog()
    assert dog.overdue({"n1"}, {}, now=100) == ({}, NO_AGENT_SECONDS)
    assert dog.overdue({"n1"}, {}, now=159) == ({}, 1)
    assert dog.overdue({"n1"}, {}, now=160) == (ABSENT, None)


def test_an_agent_that_is_starting_has_ten() -> None:
    dog = AgentWatchdog()
    assert dog.overdue({"n1"}, {"n1": False}, now=0) == ({}, AGENT_NOT_READY_SECONDS)
    assert dog.overdue({"n1"}, {"n1": False}, now=599) == ({}, 1)
    assert dog.overdue({"n1"}, {"n1": False}, now=600) == (UNREADY, None)


def test_an_agent_that_comes_back_begins_anew() -> None:
    dog = AgentWatchdog()
    dog.overdue({"n1"}, {}, now=0)
    assert dog.overdue({"n1"}, {"n1": True}, now=59) == ({}, None)
    assert dog.overdue({"n1"}, {}, now=70) == ({}, NO_AGENT_SECONDS)


def test_a_pod_that_appears_within_the_minute_is_waited_for() -> None:
    dog = AgentWatchdog()
    dog.overdue({"n1"}, {}, now=0)
    assert dog.overdue({"n1"}, {"n1": False}, now=61) == ({}, 539)


def test_a_pod_that_took_its_time_to_end_leaves_a_whole_minute_for_the_next_one() -> None:
    dog = AgentWatchdog()
    dog.overdue({"n1"}, {"n1": False}, now=0)
    assert dog.overdue({"n1"}, {}, now=58) == ({}, NO_AGENT_SECONDS)
    assert dog.overdue({"n1"}, {}, now=117) == ({}, 1)
    assert dog.overdue({"n1"}, {}, now=118) == (ABSENT, None)


def test_pods_that_come_and_go_are_not_waited_for_without_end() -> None:
    dog = AgentWatchdog()
    for now in range(0, 600, 40):
        assert dog.overdue({"n1"}, {}, now=now)[0] == {}
        assert dog.overdue({"n1"}, {"n1": False}, now=now + 20)[0] == {}
    assert dog.overdue({"n1"}, {"n1": False}, now=600) == (UNREADY, None)


def test_a_node_without_jobs_is_forgotten() -> None:
    dog = AgentWatchdog()
    dog.overdue({"n1"}, {}, now=0)
    assert dog.overdue(set(), {}, now=30) == ({}, None)
    assert dog.overdue({"n1"}, {}, now=60) == ({}, NO_AGENT_SECONDS)


def test_nodes_are_judged_one_by_one_and_the_next_deadline_is_told() -> None:
    dog = AgentWatchdog()
    dog.overdue({"n1"}, {}, now=0)
    assert dog.overdue({"n1", "n2", "n3"}, {"n2": False, "n3": True}, now=60) == (ABSENT, 600)
