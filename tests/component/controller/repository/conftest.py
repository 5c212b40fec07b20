"""The backup tests' worlds: keys are changed under running backups."""

from __future__ import annotations

from tests.component.controller.backup.conftest import api, restic, work, world

__all__ = ["api", "restic", "work", "world"]
