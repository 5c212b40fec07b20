"""Names of kinds as people write them, resolved as kubectl does. Pure.

Decision: one rule for backups and restores. A word means every known kind that has it as plural,
singular, kind or short name, alone or with its group, version and group, or the beginning of its
group; ``*`` means all; a word that no known kind has is an error rather than an empty choice.
Limits: the version is not looked at: a kind is kept in the one that the server prefers. Categories
(``all``) mean nothing: kubectl's leaves out ConfigMaps, Secrets and claims.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ararat.api.backup import Selection
from ararat.errors import InvalidSpec
from ararat.kube.resources import ResourceType

#: By qualified name (``deployments.apps``): every way to spell it, in lower case.
Spellings = Mapping[str, frozenset[str]]
_VERSIONED = re.compile(r"([^.]+)\.v[0-9]+(?:(?:alpha|beta)[0-9]+)?\.(.*)")


def spellings(resource: ResourceType) -> set[str]:
    """What kubectl lets a person call this kind, in lower case; see ``meant_by`` for the rest."""
    words = {resource.plural, resource.kind.lower(), *resource.short_names}
    if resource.singular:
        words.add(resource.singular)
    if resource.group:
        words |= {f"{word}.{resource.group}" for word in tuple(words)}
    return {word.lower() for word in words}


def known_kinds(resources: Iterable[ResourceType]) -> Spellings:
    """What each kind may be called; of one that is there twice, all of its names."""
    known: dict[str, set[str]] = {}
    for resource in resources:
        known.setdefault(resource.qualified, set()).update(spellings(resource))
    return {kind: frozenset(words) for kind, words in known.items()}


def chosen_kinds(known: Spellings, selection: Selection, *, unknown: str) -> frozenset[str]:
    """The qualified names that are meant.

    ``unknown`` begins the sentence about a word that none has. Raises InvalidSpec.
    """
    for field, words in (
        ("includedResources", selection.included_resources),
        ("excludedResources", selection.excluded_resources),
    ):
        for word in words:
            if word != "*" and not meant_by(known, word):
                raise InvalidSpec(f"{field}: {unknown} {word!r}", reason="UnknownResource")
    included = _meant_by_any(known, selection.included_resources or ["*"])
    return frozenset(included - _meant_by_any(known, selection.excluded_resources))


def meant_by(known: Spellings, word: str) -> set[str]:
    """The qualified names of the kinds that a word means."""
    word = word.lower()
    found = {kind for kind, words in known.items() if word in words}
    if found:
        return found
    if versioned := _VERSIONED.fullmatch(word):
        name, group = versioned.groups()
        if group:
            return meant_by(known, f"{name}.{group}")
        return {kind for kind in meant_by(known, name) if "." not in kind}  # pods.v1.
    if "." in word:  # certificates.cert-manager
        return {kind for kind, words in known.items() if any(w.startswith(word) for w in words)}
    return set()


def _meant_by_any(known: Spellings, words: Iterable[str]) -> set[str]:
    return set().union(*(known if word == "*" else meant_by(known, word) for word in words))
