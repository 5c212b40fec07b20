"""The one error of the test cluster: a sentence that names the object and the next step."""

from __future__ import annotations


class ClusterError(Exception):
    """Something the harness runs did not do what it should; the message says what to look at."""
