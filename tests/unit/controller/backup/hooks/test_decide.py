"""Every prefix of the steps around a freeze, cut off by the end of the controller, and resumed.

A small world is played second by second: node agents, commands that run on when nobody listens, and
a controller that writes, runs and waits one act at a time, as the driver does. It is ended before
each act in turn (and before each pair of acts), forgets everything, and begins again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from ararat.api.nodejob import JobPhase
from controller.backup.hooks.decide import (
    ATTEMPTS,
    HOOK_FAILED,
    INTERRUPTED,
    WINDOW_CLOSED,
    Decision,
    Job,
    Pod,
    State,
    decide,
)

MAX_FREEZE = 60.0
PRE_SECONDS = 3
READ_SECONDS = 4


@dataclass
class Record:
    state: State = State.IDLE
    attempts: int = 0
    failure: str = ""
    frozen_at: float = 0.0


class Ended(Exception):
    """The controller was ended."""


@dataclass
class World:
    pods: int = 1
    jobs: int = 2
    pre_fails: bool = False
    read_forever: bool = False
    ending_at: int | None = None
    crashes: tuple[int, ...] = ()
    now: int = 0
    acts: int = 0
    records: dict[str, Record] = field(default_factory=dict)
    phases: dict[str, JobPhase] = field(default_factory=dict)
    hold: dict[str, bool] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    reading: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, bool] = field(default_factory=dict)
    #: When a pre hook that was started ends.
    running: dict[str, int] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for n in range(self.pods):
            self.records[f"p{n}"], self.frozen[f"p{n}"] = Record(), False
        for n in range(self.jobs):
            self.phases[f"j{n}"], self.hold[f"j{n}"] = JobPhase.NEW, True

    def act(self, what: str) -> None:
        """The controller is about to do this, or is ended."""
        self.acts += 1
        if self.acts in self.crashes:
            self.story.append(f"{self.now}: ended before: {what}")
            raise Ended
        self.story.append(f"{self.now}: {what}")

    def tick(self) -> None:
        self.now += 1
        for pod, end in list(self.running.items()):
            if self.now >= end:
                del self.running[pod]
                self.frozen[pod] = True
        for job, phase in self.phases.items():
            if phase.terminal:
                continue
            if job in self.cancelled:
                self.phases[job] = JobPhase.CANCELLED
            elif phase is JobPhase.IN_PROGRESS:
                # What the whole thing is for; what is read of a backup that ends is of no use.
                ends = self.ending_at is not None and self.now >= self.ending_at
                assert ends or all(self.frozen.values()), "\n".join(self.story)
                self.reading[job] += 1
                if self.reading[job] >= READ_SECONDS and not self.read_forever:
                    self.phases[job] = JobPhase.COMPLETED
            elif not self.hold[job]:
                self.phases[job] = JobPhase.IN_PROGRESS
                self.reading[job] = 0
            elif phase is JobPhase.NEW:
                self.phases[job] = JobPhase.RESERVED


class Controller:
    """One life."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.began = world.now
        self.tasks: dict[str, Iterator[None]] = {}
        self.own: set[str] = set()
        self.done = False

    def look(self) -> Decision:
        world = self.world
        pods = []
        for uid, record in world.records.items():
            settled = 0.0
            if record.state is State.OWED:
                settled = max(0.0, self.began + PRE_SECONDS + 1 - world.now)
            pods.append(
                Pod(
                    uid,
                    record.state,
                    busy=uid in self.tasks,
                    frozen_for=world.now - record.frozen_at,
                    settled_in=settled,
                    attempts=record.attempts,
                    failure=record.failure,
                )
            )
        jobs = [
            Job(name, phase, world.hold[name], name in world.cancelled)
            for name, phase in world.phases.items()
        ]
        ending = world.ending_at is not None and world.now >= world.ending_at
        return decide(pods, jobs, ending=ending, max_freeze=MAX_FREEZE)

    def second(self) -> None:
        world, decision = self.world, self.look()
        for uid in decision.freeze:
            self.tasks[uid] = self.freeze(uid)
        for uid in decision.thaw:
            self.tasks[uid] = self.thaw(uid, again=uid in decision.again)
        for job in decision.release:
            world.act(f"release {job}")
            world.hold[job] = False
        for job in decision.fail:
            world.act(f"fail {job}")
            world.phases[job] = JobPhase.FAILED
        for job in decision.cut:
            world.act(f"cut {job}")
            world.cancelled.add(job)
        self.done = decision.done
        for uid, task in list(self.tasks.items()):
            if next(task, "over") == "over":
                del self.tasks[uid]

    def freeze(self, uid: str) -> Iterator[None]:
        world, known = self.world, self.world.records[uid]
        world.act(f"owed {uid}")
        known.state, known.attempts = State.OWED, known.attempts + 1
        known.frozen_at = world.now
        yield
        world.act(f"pre {uid}")
        assert not world.frozen[uid], "\n".join(world.story)
        world.running[uid] = world.now + PRE_SECONDS
        while uid in world.running:
            yield
        world.act(f"pre of {uid} has ended")
        if world.pre_fails:
            known.state, known.failure = State.BROKEN, HOOK_FAILED
        else:
            known.state = State.FROZEN

    def thaw(self, uid: str, *, again: bool) -> Iterator[None]:
        world, known = self.world, self.world.records[uid]
        world.act(f"post {uid}")
        assert uid not in world.running, "\n".join(world.story)
        world.frozen[uid] = False
        yield
        world.act(f"{uid} was let go")
        known.state = State.IDLE if again else State.DONE


def play(world: World) -> World:
    controller = Controller(world)
    for _ in range(300):
        try:
            controller.second()
        except Ended:
            controller = Controller(world)
        world.tick()
        ended = all(phase.terminal for phase in world.phases.values())
        if controller.done and (ended or world.ending_at is not None):
            break
    else:
        raise AssertionError("it never ends:\n" + "\n".join(world.story))
    # Nobody is left frozen, nor will be.
    assert not any(world.frozen.values()), "\n".join(world.story)
    assert not world.running, "\n".join(world.story)
    assert not any(record.state.owes for record in world.records.values())
    return world


CASES = {
    "one pod": World(),
    "two pods that share a claim": World(pods=2),
    "a pod without volumes": World(jobs=0),
    "a pre hook that fails": World(pre_fails=True),
    "cancelled early": World(ending_at=2),
    "cancelled while frozen": World(ending_at=7),
    "never read": World(read_forever=True, pods=2),
}


def fresh(case: str, *crashes: int) -> World:
    made = CASES[case]
    return World(
        pods=made.pods,
        jobs=made.jobs,
        pre_fails=made.pre_fails,
        read_forever=made.read_forever,
        ending_at=made.ending_at,
        crashes=crashes,
    )


@pytest.mark.parametrize("case", CASES)
def test_every_prefix(case: str) -> None:
    whole = play(fresh(case))
    expected = dict(whole.phases)
    for one in range(1, whole.acts + 1):
        world = play(fresh(case, one))
        # It ends as it would have.
        assert world.ending_at or world.phases == expected, "\n".join(world.story)
        for other in range(one + 1, whole.acts + 12):
            play(fresh(case, one, other))


def test_the_whole_story_of_one_pod() -> None:
    world = play(fresh("one pod"))
    assert [line.partition(": ")[2] for line in world.story] == [
        "owed p0",
        "pre p0",
        "pre of p0 has ended",
        "release j0",
        "release j1",
        "post p0",
        "p0 was let go",
    ]
    assert set(world.phases.values()) == {JobPhase.COMPLETED}
    assert set(play(fresh("never read")).phases.values()) == {JobPhase.CANCELLED}
    assert set(play(fresh("a pre hook that fails")).phases.values()) == {JobPhase.FAILED}


RESERVED = Job("j", JobPhase.RESERVED, hold=True)
HELD = Job("k", JobPhase.HELD, hold=True)


def ask(pods: list[Pod], jobs: list[Job], *, ending: bool = False) -> Decision:
    return decide(pods, jobs, ending=ending, max_freeze=MAX_FREEZE)


def test_nothing_is_frozen_while_a_job_queues() -> None:
    assert ask([Pod("p")], [RESERVED, HELD]) == Decision()
    assert ask([Pod("p")], [RESERVED]).freeze == ("p",)
    assert ask([Pod("p")], [replace(HELD, phase=JobPhase.FAILED)]) == Decision(done=True)


def test_begun_again_and_again() -> None:
    worn = Pod("p", attempts=ATTEMPTS)
    decision = ask([worn], [RESERVED])
    assert (decision.fail, decision.failure, decision.done) == (("j",), INTERRUPTED, False)
    assert ask([worn], [replace(RESERVED, phase=JobPhase.FAILED)]).done
    # While somebody is at work on it, it is not worn.
    assert ask([replace(worn, busy=True)], [RESERVED]) == Decision()


def test_a_job_that_comes_back_after_its_pods_were_let_go() -> None:
    decision = ask([Pod("p", State.DONE)], [RESERVED])
    assert (decision.fail, decision.failure) == (("j",), WINDOW_CLOSED)


def test_what_is_waited_for() -> None:
    frozen = Pod("p", State.FROZEN, frozen_for=10.0)
    assert ask([frozen], [RESERVED]) == Decision(release=("j",), wait=50.0)
    owed = Pod("q", State.OWED, settled_in=4.0)
    assert ask([frozen, owed], [RESERVED]) == Decision(wait=4.0)
    assert ask([owed], [], ending=True) == Decision(wait=4.0)
    settled = replace(owed, settled_in=0.0)
    assert ask([settled], [RESERVED]) == Decision(thaw=("q",), again=("q",))
    assert ask([settled], [], ending=True) == Decision(thaw=("q",))


def test_a_failure_of_one_lets_go_of_all() -> None:
    broken = Pod("p", State.BROKEN, failure=HOOK_FAILED)
    frozen = Pod("q", State.FROZEN)
    waiting = Pod("r", State.OWED, busy=True)
    decision = ask([broken, frozen, waiting], [RESERVED])
    assert decision.thaw == ("p", "q")
    assert (decision.fail, decision.failure, decision.done) == (("j",), HOOK_FAILED, False)
