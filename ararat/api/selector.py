"""Label selectors, as Kubernetes writes them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from .base import Model


class LabelSelectorRequirement(Model):
    key: str = Field(description="Label key.")
    operator: str = Field(
        pattern="^(In|NotIn|Exists|DoesNotExist)$",
        description="In, NotIn, Exists or DoesNotExist.",
    )
    values: list[str] = Field(default=[], description="For In and NotIn: the values.")


class LabelSelector(Model):
    """Kubernetes' own."""

    match_labels: dict[str, str] = Field(
        default={}, description="Labels an object must have, key to value."
    )
    match_expressions: list[LabelSelectorRequirement] = Field(
        default=[], description="Requirements its labels must all meet."
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Kubernetes' own rule."""
        if any(labels.get(key) != value for key, value in self.match_labels.items()):
            return False
        for need in self.match_expressions:
            value = labels.get(need.key)
            if need.operator == "In" and (value is None or value not in need.values):
                return False
            if need.operator == "NotIn" and value is not None and value in need.values:
                return False
            if need.operator == "Exists" and value is None:
                return False
            if need.operator == "DoesNotExist" and value is not None:
                return False
        return True
