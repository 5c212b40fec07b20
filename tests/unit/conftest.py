"""Settings of all unit tests: no test fails because the machine was busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("ararat", deadline=None)
settings.load_profile("ararat")
