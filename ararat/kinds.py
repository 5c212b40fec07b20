"""Names of kinds as people write them, resolved as kubectl does. Pure.

Decision: one rule for backups and restores. A word means every known kind that has it as plural,
singular, kind or short name, with or without the group; ``*`` means all; a word that no known kind
has is an error rather than an empty choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ararat.api.backup import Selection
from ararat.errors import InvalidSpec
from ararat.kube.resources import ResourceType

#: By qualified name (``deployments.apps``): every way to spell it, in lower case.
Spellings = Mapping[str, frozenset[str]]


def spellings(resource: ResourceType) -> set[str]:
    """Every way in which kubectl lets a person name this kind, in lower case."""
    words = {resource.plural, resource.kind.lower(), *resource.short_names}
    if resource.singular:
        words.add(resource.singular)
    if resource.group:
        words |= {f"{word}.{resource.group}" for word in tuple(words)}
        words.add(f"{resource.plural}.{resource.version}.{resource.group}")
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
    included = {word.lower() for word in selection.included_resources}
    excluded = {word.lower() for word in selection.excluded_resources}
    if "*" in excluded:
        return frozenset()
    return frozenset(
        kind
        for kind, words in known.items()
        if (not included or "*" in included or words & included) and not words & excluded
    )


def meant_by(known: Spellings, word: str) -> set[str]:
    """The qualified names of the kinds that a word means."""
    return {kind for kind, words in known.items() if word.lower() in words}
