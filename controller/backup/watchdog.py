"""Which jobs wait for an agent that will not come. Pure, apart from a clock that is given.

A node without any agent pod fails its jobs after a minute; one whose agent pod exists but is not
Ready (starting, crashing, being replaced) after ten: a rolling update must cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

NO_AGENT_SECONDS = 60.0
AGENT_NOT_READY_SECONDS = 600.0


class AgentWatchdog:
    """Remembers since when each node has been without a Ready agent, and without any."""

    def __init__(self) -> None:
        self._unready: dict[str, float] = {}
        #: From here the minute counts: a pod that took its time to end was an agent pod, too.
        self._absent: dict[str, float] = {}

    def overdue(
        self, nodes: set[str], agents: Mapping[str, bool], *, now: float
    ) -> tuple[dict[str, str], float | None]:
        """(node → why its jobs must fail, seconds until the next one may be due).

        ``nodes`` have unfinished jobs; ``agents`` says of each node with an agent pod whether it
        is Ready; ``now`` is monotonic seconds.
        """
        self._unready = {
            node: self._unready.get(node, now) for node in nodes if not agents.get(node, False)
        }
        self._absent = {
            node: self._absent.get(node, now) for node in self._unready if node not in agents
        }
        failed: dict[str, str] = {}
        waits: list[float] = []
        for node, unready in self._unready.items():
            ends = unready + AGENT_NOT_READY_SECONDS
            if (absent := self._absent.get(node)) is not None:
                ends = min(ends, absent + NO_AGENT_SECONDS)
            if ends > now:
                waits.append(ends - now)
            elif absent is None:
                seconds = int(AGENT_NOT_READY_SECONDS)
                failed[node] = f"the agent on node {node} has not been ready for {seconds} s"
            else:
                failed[node] = f"node {node} has no agent: see kubectl get pods -o wide"
        return failed, min(waits, default=None)
