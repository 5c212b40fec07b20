"""The backup tests' worlds: a location is mostly what others make of it."""

from __future__ import annotations

from tests.component.controller.backup.conftest import api, restic, work, world

__all__ = ["api", "restic", "work", "world"]
