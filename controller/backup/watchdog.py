"""Which jobs wait for an agent that will not come. Pure, apart from a clock that is given.

A node without any agent pod fails its jobs after a minute; one whose agent pod exists but is not
Ready (starting, crashing, being replaced) after ten: a rolling update must cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

NO_AGENT_SECONDS = 60.0
AGENT_NOT_READY_SECONDS = 600.0


class AgentWatchdog:
    """Remembers since when each node has been without a Ready agent."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def overdue(
        self, nodes: set[str], agents: Mapping[str, bool], *, now: float
    ) -> tuple[dict[str, str], float | None]:
        """(node → why its jobs must fail, seconds until the next one may be due).

        ``nodes`` have unfinished jobs; ``agents`` says of each node with an agent pod whether it
        is Ready; ``now`` is monotonic seconds.
        """
        for node in list(self._since):
            if node not in nodes or agents.get(node, False):
                del self._since[node]
        failed: dict[str, str] = {}
        waits: list[float] = []
        for node in nodes:
            if agents.get(node, False):
                continue
            since = self._since.setdefault(node, now)
            limit = AGENT_NOT_READY_SECONDS if node in agents else NO_AGENT_SECONDS
            left = since + limit - now
            if left > 0:
                waits.append(left)
            elif node in agents:
                failed[node] = f"the agent on node {node} has not been ready for {int(limit)} s"
            else:
                failed[node] = f"node {node} has no agent: see kubectl get pods -o wide"
        return failed, min(waits, default=None)
