"""``ararat key``: the master key, out of the cluster and back into one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ararat.cli import output, session
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.kube import KubeApi

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keep the master key safe: nothing opens a backup without it.",
)


@app.command("export")
@with_settings
def export(
    settings: Settings,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; it must not exist. Default: print it.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Write the master key and the ids of the locations: all that a recovery needs.

    Keep the file outside this cluster, where only few can read it. Whoever has it and can read a
    location can read every backup there; whoever lost it can read none.

    \b
      ararat key export -o ararat-key.json
    """
    from ararat.cli import keyring

    exported = session.run(settings, lambda api: keyring.export(api, settings))
    text = exported.model_dump_json(by_alias=True, indent=2)
    if file is None:
        if sys.stdout.isatty():
            session.note("warning: this is the key to every backup; clear the screen afterwards")
        output.text(text)
        return
    _write_private(file, text + "\n")
    session.note(f"key {exported.fingerprint} written to {file}; keep it outside this cluster")


@app.command("import")
@with_settings
def import_(
    settings: Settings,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What 'ararat key export' wrote; - for stdin.")
    ],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace another key, as long as no location here depends on it."
        ),
    ] = False,
) -> None:
    """Give this installation the key of another one, to read and restore its backups.

    \b
      ararat key import ararat-key.json
    """
    from ararat import keys
    from ararat.cli import keyring

    imported = keys.read_export(_read(file))

    async def body(api: KubeApi) -> keyring.Outcome:
        return await keyring.store(api, settings, imported, replace=replace)

    outcome = session.run(settings, body)
    output.text(
        f"key {imported.fingerprint} {outcome.value} in namespace {settings.keys_namespace}"
    )


def _read(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error


def _write_private(path: Path, text: str) -> None:
    """A new file that only its owner can read, from its first moment."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise typer.BadParameter(f"{path} exists: choose another file") from error
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
