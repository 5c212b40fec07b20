"""``ararat``: the commands, one file per noun, and the one place where errors end.

Start time matters to people and to shell completion: nothing here imports the Kubernetes client or
the models; commands do, when they run.
"""

from __future__ import annotations

import os
import sys

import typer

from ararat.cli import (
    backup,
    coverage_now,
    key,
    life,
    location,
    restore,
    schedule,
    session,
    verification,
    version,
)

app = typer.Typer(
    name="ararat",
    no_args_is_help=True,
    add_completion=True,
    # Plain help: it starts faster, and what it shows can be copied.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Back up the files in Kubernetes volumes and the objects around them; bring both back.

    \b
    First steps:
      kubectl annotate pods -n wp -l app=mariadb ararat.dev/backup-volumes=data
      ararat backup create mybackup --include-namespaces wp --wait
      ararat backup describe mybackup
      ararat restore create --from-backup mybackup --wait
      ararat schedule create nightly --cron '30 2 * * *' --include-namespaces wp --keep-daily 7
      ararat key export -o ararat-key.json        (keep it outside the cluster)

    \b
    Exit codes:
      0 done   1 failed   2 wrong usage   3 partially failed   130 interrupted (the work goes on)
    """,
)
life.register(backup.app)
verification.register(backup.app)
app.add_typer(backup.app, name="backup")
app.add_typer(restore.app, name="restore")
app.add_typer(schedule.app, name="schedule")
app.add_typer(verification.app, name="verification")
app.add_typer(location.app, name="location")
app.add_typer(key.app, name="key")
app.command("coverage")(coverage_now.coverage)
app.command("version")(version.version)


def run(arguments: list[str]) -> int:
    """The exit code of one call; says on stderr what went wrong."""
    try:
        result = app(arguments, prog_name="ararat", standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        session.note("interrupted")
        return session.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep Python's exit from complaining too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return session.OK
    except Exception as error:
        if session.debugging():
            raise
        session.note(f"error: {session.explain(error)}")
        return session.FAILED
    return result if isinstance(result, int) else session.OK


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message().removeprefix("Invalid value: ").strip()
    if type(error).__name__ == "NoArgsIsHelpError":
        session.note(error.format_message())
        return error.exit_code
    where = f" (see {context.command_path} --help)" if context is not None else ""
    session.note(f"error: {' '.join(message.split())}{where}")
    return error.exit_code


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
