"""Where an object of the backup goes: its new name and namespace, and what is in the way. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ararat.api.plan import Action

from .metadata import made_by
from .plan import Item
from .selection import NAMESPACES
from .skips import Skip
from .stored import Object, StoredObject


@dataclass(frozen=True)
class Places:
    """``namespaces``: old → new, every namespace of the restore."""

    namespaces: Mapping[str, str]
    restore_uid: str

    def name(self, obj: StoredObject) -> str:
        return self.namespaces.get(obj.name, obj.name) if obj.resource == NAMESPACES else obj.name

    def namespace(self, obj: StoredObject) -> str | None:
        return self.namespaces[obj.namespace] if obj.namespace else None

    def path(self, obj: StoredObject) -> str:
        """``wp/mariadb``, as it is called afterwards."""
        namespace = self.namespace(obj)
        return f"{namespace}/{obj.name}" if namespace else self.name(obj)

    def in_the_way(
        self, found: Mapping[tuple[str, str], Object], obj: StoredObject
    ) -> Object | None:
        """What is there already, if this restore did not make it itself."""
        present = found.get((self.namespaces[str(obj.namespace)], obj.name))
        return None if present is None or made_by(present, self.restore_uid) else present

    def left_out(self, obj: StoredObject, skip: Skip) -> Item:
        """The item of an object that does not come back."""
        return Item(
            stored=obj,
            action=Action.SKIP,
            name=self.name(obj),
            namespace=self.namespace(obj),
            reason=skip.reason,
            message=skip.message,
        )
