"""What matches a pattern or lies below a folder.

fsspec's own `glob` and `find` leave out folders that cannot be listed; here such a folder is an error. Folders to
which a pattern does not lead are not listed: they need not be readable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from fsspec.utils import glob_translate

from raflow.connectors.files.links import BROKEN, LinkedFileSystem
from raflow.credentials import redact
from raflow.errors import SourceError
from raflow.foreign import foreign_errors
from raflow.places import Location

WEB = ("http", "https")
"""Protocols of pages with links, which have a way of their own to be searched."""

_SIGN = re.compile(r"[*?\[]")


def show(location: Location, path: str) -> str:
    """Return a file's path or URL for messages."""
    if location.is_on_disk:
        return path
    head, _, tail = location.url.partition("::")
    with foreign_errors(f"opening {location.shown}", SourceError, location):
        url = location.fs.unstrip_protocol(path)
        url = url.replace(":///", f"://{location.host}/", 1) if location.host else url
    return redact(f"{url}::{tail}" if tail and "://" in head else url)


def is_glob(path: str) -> bool:
    """Return whether the path is a pattern."""
    return _SIGN.search(path) is not None


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is no data: `.a` and `_a` are not, but `_a=1` is a partition."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def matching(location: Location) -> dict[str, Any]:
    """Return the files that match a location's pattern, by path; if only folders do, what is below these.

    Raises:
        SourceError: A folder cannot be listed, or a link leads nowhere; names it.
    """
    found = dict(_matching(location))
    files = _visible(found, _fixed(location.path))
    if files:
        return files
    folders = (info for info in found.values() if info["type"] == "directory")
    return {path: info for folder in folders for path, info in below(location, folder).items()}


def below(location: Location, info: dict[str, Any]) -> dict[str, Any]:
    """Return the files below a folder, by path; the location itself if it is a file.

    Raises:
        SourceError: A folder cannot be listed, or a link leads nowhere; names it.
    """
    if info["type"] != "directory":
        return {location.path: info}
    folder = str(info["name"])
    return _visible(dict(_tree(location, folder)), folder)


def _matching(location: Location) -> Iterator[tuple[str, Any]]:
    pattern = location.path
    if location.protocol in WEB:
        yield from location.fs.glob(pattern, detail=True).items()
        return
    folder, fits = _fixed(pattern), re.compile(glob_translate(pattern)).match
    steps = pattern[len(folder) :].strip("/").split("/")
    for path, info in _led_to(location, folder or location.fs.root_marker, steps):
        if fits(path):
            yield path, info


def _led_to(location: Location, folder: str, steps: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield what may match the steps of a pattern below a folder."""
    step, *rest = steps
    if "**" in step:
        yield from _tree(location, folder)
        return
    fits = re.compile(glob_translate(step)).match
    for path, info in _listed(location, folder, "" if rest else _SIGN.split(step, maxsplit=1)[0]):
        if fits(_name(path)):
            yield path, info
            if rest and _is_open(path, info):
                yield from _led_to(location, path, rest)


def _tree(location: Location, folder: str) -> Iterator[tuple[str, Any]]:
    """Yield what is below a folder, at least what is not hidden."""
    if location.bucket:
        yield from _listed(location, folder, all_below=True)
        return
    for path, info in _listed(location, folder):
        yield path, info
        if _is_open(path, info):
            yield from _tree(location, path)


def _listed(location: Location, folder: str, prefix: str = "", *, all_below: bool = False) -> list[tuple[str, Any]]:
    """Return what is in a folder; nothing if there is no such folder.

    Args:
        location: Of the folder.
        folder: Its path.
        prefix: Of the names that are wanted, where it saves requests; others may come, too.
        all_below: Whether to list all that is below it, which object stores do at once.
    """
    fs = LinkedFileSystem() if location.is_on_disk else location.fs
    with foreign_errors(f"listing {show(location, folder)}", SourceError, location), suppress(FileNotFoundError):
        if all_below:
            infos: Iterable[Any] = fs.find(folder, withdirs=True, detail=True).values()
        else:
            infos = _beginning(fs, folder, prefix) if prefix and location.bucket else fs.ls(folder, detail=True)
        return [(str(info["name"]), info) for info in infos]
    return []


def _beginning(fs: Any, folder: str, prefix: str) -> Iterable[Any]:
    try:
        return list(fs.find(folder, maxdepth=1, withdirs=True, detail=True, prefix=prefix).values())
    except ValueError:  # older drivers do not know all these options together
        return list(fs.ls(folder, detail=True))


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _is_open(path: str, info: dict[str, Any]) -> bool:
    return bool(info["type"] == "directory") and not is_hidden(_name(path))


def _fixed(pattern: str) -> str:
    """Return the folder above the first sign of a pattern."""
    return _SIGN.split(pattern, maxsplit=1)[0].rpartition("/")[0]


def _visible(found: dict[str, Any], folder: str) -> dict[str, Any]:
    data = {path: info for path, info in found.items() if _is_data(path, folder)}
    broken = next((path for path, info in data.items() if info["type"] == BROKEN), None)
    if broken is not None:
        msg = f"{broken} is a link to {data[broken]['destination']}, which cannot be reached; mend or remove the link"
        raise SourceError(msg)
    return {path: info for path, info in data.items() if info["type"] == "file"}


def _is_data(path: str, folder: str) -> bool:
    names = path[len(folder) :].strip("/").split("/")
    return not path.endswith("/") and not any(is_hidden(name) for name in names)
