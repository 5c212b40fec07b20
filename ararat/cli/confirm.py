"""Asks before something that cannot be taken back."""

from __future__ import annotations

import sys

import typer

from ararat.cli import session


def confirm(question: str, *, yes: bool, about: str) -> None:
    """Shows ``about`` and asks; ends unless the answer is yes. ``yes``: nobody is asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: say --yes")
    session.note(about)
    if not typer.confirm(question, err=True):
        session.note("nothing was changed")
        raise typer.Exit(session.FAILED)
