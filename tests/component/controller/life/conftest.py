"""The backup tests' worlds, in which time can be moved."""

from __future__ import annotations

from tests.component.controller.backup.conftest import api, restic, work, world

__all__ = ["api", "restic", "work", "world"]
