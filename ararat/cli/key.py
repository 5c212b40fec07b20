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


@app.command("rotate")
@with_settings
def rotate(
    settings: Settings,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File for the new key; it must not exist. Needed to begin.",
            metavar="FILE",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="Change to the key in this export instead of a new one.", metavar="FILE"
        ),
    ] = None,
    reencrypt: Annotated[
        bool,
        typer.Option(
            "--reencrypt",
            help="After a leak: encrypt everything that is stored anew, too. Takes a day or more, "
            "and up to twice the room.",
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="Wait until it is done; it goes on without you."),
    ] = True,
) -> None:
    """Change the master key for another one, while backups and restores go on.

    Every repository of this cluster's locations gets a second key first; then new work uses it;
    when the work that began before has ended, the former key is removed everywhere. Interrupted at
    any point it goes on by itself; say it again to see how far it is.

    \b
      ararat key rotate -o ararat-key-2.json

    \b
    This is enough for a key that is due or whose keepers change. It does not help after a leak:
    whoever had the former key and could read the location may hold copies of the inner keys of
    restic, which stay the same. First take their access to the store away, then:
      ararat key rotate --reencrypt -o ararat-key-2.json

    \b
    It copies every repository into a new one with new inner keys, tells the manifests, and removes
    the former ones a day later. Backups and restores go on meanwhile.

    \b
    A cluster that reads another one's location follows with the same key:
      ararat key rotate --to ararat-key-2.json
    """
    import asyncio

    from ararat import keys
    from ararat.cli import rotation

    wanted = None if to is None else keys.read_export(_read(to))
    began = session.run(settings, lambda api: rotation.look(api, settings))
    if not began.under_way:
        if wanted is None and file is None:
            raise typer.BadParameter("say where to keep the new key: -o FILE")
        master = keys.new_master_key() if wanted is None else wanted.master
        exported = keys.export_key(master, began.locations)
        if file is not None:  # before the cluster knows it: a key that nobody keeps is a loss
            _write_private(file, exported.model_dump_json(by_alias=True, indent=2) + "\n")
        began = session.run(
            settings, lambda api: rotation.begin(api, settings, master, reencrypt=reencrypt)
        )
        session.note(f"rotating to key {exported.fingerprint}")
    elif file is not None or to is not None or reencrypt:
        raise typer.BadParameter(
            "a rotation is under way already: say it without -o, --to and --reencrypt"
        )
    if not wait:
        output.text("the controller rotates the key; 'ararat key rotate' shows how far it is")
        return

    async def until_done(api: KubeApi) -> str:
        said = ""
        while True:
            state = await rotation.look(api, settings)
            if not state.under_way:
                return state.fingerprint
            if state.text != said:
                said = state.text
                session.note(said)
            await asyncio.sleep(rotation.LOOK_SECONDS)

    done = session.run(settings, until_done)
    output.text(
        f"key {done} opens everything now; exports of the former key open backups no longer"
    )


@app.command("password")
@with_settings
def password(
    settings: Settings,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What 'ararat key export' wrote; - for stdin.")
    ],
    repository: Annotated[
        str | None,
        typer.Argument(metavar="[DIRECTORY]", help="The repository's, as manifests name it."),
    ] = None,
    location: Annotated[
        str | None,
        typer.Option("--location", help="Name or id of its location.", metavar="LOCATION"),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            help="One of the files in the repository's keys/, which says the rest.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Print the password of one repository, for plain restic. No cluster is asked.

    \b
      ararat key password ararat-key.json repositories/volumes/wp/3f9c... --location prod

    \b
    With location.json lost, from a key file of the repository alone:
      ararat key password ararat-key.json --key-file keys/0a1b...
    """
    from ararat import keys
    from ararat.cli import keyring

    del settings
    exported = keys.read_export(_read(file))
    if (repository is None) == (key_file is None):
        raise typer.BadParameter("name either the repository's DIRECTORY or one of its --key-file")
    if key_file is not None:
        found = keyring.password_by_key_file(exported, _read(key_file))
    else:
        assert repository is not None
        found = keyring.password_by_directory(exported, repository, location=location)
    output.text(found)


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
