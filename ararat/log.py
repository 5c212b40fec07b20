"""Logging: one format for our lines and those of the libraries below us.

Decision: structlog renders everything, the standard library's records included, as JSON in a
cluster and as readable lines on a terminal, to stderr. Events have a fixed name and key=value
pairs; what is bound with ``structlog.contextvars`` (backup, job, node) stands in every line of the
work it was bound for. Values under keys that name a credential are never written.
Limits: the last line of defence only; texts are not searched for secrets.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

#: Libraries that say too much, the azure one every request with its headers.
QUIET = ("azure", "aiohttp.access", "asyncio", "client", "kubernetes", "urllib3")
#: Keys whose values are secrets, whoever logs them.
SECRET_KEYS = frozenset(
    {"password", "token", "authorization", "secret", "sas", "account_key", "master_key"}
)


def _redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event.keys() & SECRET_KEYS:
        event[key] = "[redacted]"
    return event


def configure(level: str = "info", json: bool | None = None) -> None:
    """Set up logging of this process. ``json=None``: JSON unless stderr is a terminal."""
    if json is None:
        json = not sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _redact,
    ]
    final: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta
    ]
    if json:
        final += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        final.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # A cached logger would keep this set-up for good, whatever is set up after it.
        cache_logger_on_first_use=False,
    )
