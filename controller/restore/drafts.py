"""Drafts: objects of the backup as they will be created. Pure.

Decision: every object takes the same way, whatever its kind: what the old cluster owned is taken
off, references follow the mappings, the user's rules come last, and then our mark, which no rule
can take off. What is lost on the way is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ararat.api.plan import Action
from ararat.api.restore import Restore

from .metadata import mark
from .modifiers import Modifiers
from .notes import Notes
from .places import Places
from .plan import Item
from .stored import Object, StoredObject
from .transform import Target, prepare


@dataclass(frozen=True, kw_only=True)
class Drafts:
    restore: Restore
    places: Places
    target: Target
    modifiers: Modifiers
    notes: Notes
    #: Rules that changed an object, by ``deployments.apps wp/web``.
    _modified: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def body(self, obj: StoredObject, *, keep_volume: bool = False, quiet: bool = False) -> Object:
        """``quiet``: what it would lose is of no interest, because it exists."""
        prepared = prepare(obj.resource, obj.body, self.target, keep_volume=keep_volume)
        where = f"{obj.kind} {self.places.path(obj)}"
        if not quiet:
            self.notes.warnings += [f"{where}: {warning}" for warning in prepared.warnings]
        body, rules = self.modifiers.apply(obj.resource, prepared.body, where=where)
        if rules:
            self._modified[str(obj)] = rules
        mark(body, restore=self.restore.name, restore_uid=self.restore.uid)
        return body

    def item(
        self,
        obj: StoredObject,
        body: Object,
        *,
        action: Action = Action.CREATE,
        gated: tuple[str, ...] = (),
        hooks: str = "",
    ) -> Item:
        """The item of an object that comes back (or would, if it did not exist)."""
        return Item(
            stored=obj,
            action=action,
            name=body["metadata"]["name"],
            namespace=body["metadata"].get("namespace"),
            body=body,
            gated=gated,
            hooks=hooks,
            modifiers=self._modified.get(str(obj), ()),
        )
