"""A repository's config file, written by us.

Problem: ``restic init`` measures the machine for half a second and spends 1.5 s of CPU and 64 MiB
on the scrypt of a key file that is thrown away at once; there is one init in every new namespace.
Decision: the config is three fields, sealed with the repository's inner keys ("Repository Format"
in restic's design document). Nothing else makes a repository: restic creates the directories it
needs, and there is none in a Blob store.
Limits: format version 2, which every restic from 0.14 on reads and 0.18 makes by itself.
"""

from __future__ import annotations

import json
import secrets

from .crypt import Keys
from .models import RepositoryConfig
from .polynomial import random_polynomial

VERSION = 2
_ID = 32


def new_config(*, like: RepositoryConfig | None = None) -> RepositoryConfig:
    """That of a new repository. ``like``: data is cut into the same pieces as in that one."""
    polynomial = f"{random_polynomial():x}" if like is None else like.chunker_polynomial
    return RepositoryConfig(secrets.token_hex(_ID), VERSION, polynomial)


def seal_config(config: RepositoryConfig, keys: Keys) -> bytes:
    """The content of the file ``config``."""
    content = {
        "version": config.version,
        "id": config.id,
        "chunker_polynomial": config.chunker_polynomial,
    }
    return keys.seal(json.dumps(content).encode())
