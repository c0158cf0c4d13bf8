"""The local disk with its links followed, which fsspec lists as neither file nor folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from fsspec.implementations.local import LocalFileSystem

BROKEN = "broken link"
"""Type of a link that leads nowhere."""
_LOOP = "loop"


class LinkedFileSystem(LocalFileSystem):  # type: ignore[misc]
    """Lists links as the files and folders to which they lead, under their own names."""

    def info(self, path: Any, **kwargs: Any) -> dict[str, Any]:
        """Return what is known of a path; folders' entries are followed, too."""
        info: dict[str, Any] = super().info(path, **kwargs)
        if not (info["islink"] and isinstance(path, os.DirEntry)):
            return info
        name = str(info["name"])
        if not os.path.exists(name):
            return {**info, "type": BROKEN}
        led: dict[str, Any] = super().info(name)
        return {**led, "type": _LOOP} if led["type"] == "directory" and _is_loop(name) else led


def _is_loop(link: str) -> bool:
    """Return whether a link leads to a folder in which it lies: what is there is listed anyway."""
    target = os.path.realpath(link)
    return any(_is_within(os.path.realpath(folder), target) for folder in _above(link))


def _above(path: str) -> Iterator[str]:
    while (folder := os.path.dirname(path)) != path:
        yield folder
        path = folder


def _is_within(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder
