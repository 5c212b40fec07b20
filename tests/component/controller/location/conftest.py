"""The backup tests' worlds: a location is mostly what others make of it."""

from __future__ import annotations

from tests.component.controller.backup.conftest import api, control_plane, restic, work, world

__all__ = ["api", "control_plane", "restic", "work", "world"]
