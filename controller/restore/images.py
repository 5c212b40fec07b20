"""Image names, when they come from another registry here. Pure.

Decision: the beginning of a name is replaced, at a border of the name only (``/``, ``:``, ``@``, or
its end), so that ``registry.old`` does not match ``registry.older``; the longest beginning wins.
What is compared is what is written: ``nginx`` is not ``docker.io/library/nginx``.
"""

from __future__ import annotations

from collections.abc import Mapping

from .stored import Object
from .templates import pod_spec

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def map_images(resource: str, body: Object, mapping: Mapping[str, str]) -> None:
    """Replace beginnings of image names in a pod or a pod template (in place)."""
    spec = pod_spec(resource, body) if mapping else None
    if spec is None:
        return
    for field in _CONTAINERS:
        for container in spec.get(field) or []:
            image = container.get("image")
            if isinstance(image, str):
                container["image"] = mapped(image, mapping)


def mapped(image: str, mapping: Mapping[str, str]) -> str:
    for old in sorted(mapping, key=len, reverse=True):
        rest = image.removeprefix(old)
        if image.startswith(old) and (not rest or old[-1] in "/:@" or rest[0] in "/:@"):
            return mapping[old] + rest
    return image
