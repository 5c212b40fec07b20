"""The backup tests' worlds: keys are changed under running backups."""

from __future__ import annotations

from tests.component.controller.backup.conftest import api, control_plane, restic, work, world

__all__ = ["api", "control_plane", "restic", "work", "world"]
