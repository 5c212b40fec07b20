"""The backup tests' worlds, in which time can be moved."""

from __future__ import annotations

from tests.component.controller.backup.conftest import api, control_plane, restic, work, world

__all__ = ["api", "control_plane", "restic", "work", "world"]
