"""Which files a path, glob, directory or list of them stands for.

How they are found is in `finding.py`, what their folders' names say in `hive.py`; reading what is in the files
is up to the formats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from raflow.connectors.files.finding import WEB, below, is_glob, matching, show
from raflow.errors import SourceError
from raflow.foreign import foreign_errors
from raflow.places import Location
from raflow.sources import Input

THREADS = 16
"""Requests that run at once while files are listed and footers are read."""

_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "updated", "created")


@dataclass(frozen=True)
class DataFile:
    """One file of the input."""

    root: int
    """Index of the location under which it was found."""
    path: str
    """As that location's file system wants it."""
    shown: str
    """For messages; no other file of the input is shown alike."""
    size: int
    """Bytes; 0 if they are not known."""
    version: str
    """Etag or modification time."""
    is_sized: bool = True
    """Whether the size is known; else the file cannot be cut."""

    @property
    def input(self) -> Input:
        """What resume compares."""
        return Input(self.shown, self.size if self.is_sized else None, self.version)


def list_files(locations: Sequence[Location]) -> list[DataFile]:
    """Return the files of all locations as they are now, sorted within each.

    Names that start with `.` or `_` below a directory or glob are no data, but for partitions such as `_day=1`.

    Raises:
        SourceError: A location does not exist, or has no file.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(_list_one, range(len(locations)), locations))
    stores = [location.store for location in locations]
    # What is shown does not tell files apart: it has neither keys nor passwords.
    files = {(stores[file.root], file.path): file for files in found for file in files}
    return list(_told_apart(files.values()))


def _told_apart(files: Iterable[DataFile]) -> Iterator[DataFile]:
    """Yield the files, with a number where several would be shown alike: resume compares them by what is shown."""
    seen: Counter[str] = Counter()
    for file in files:
        seen[file.shown] += 1
        count = seen[file.shown]
        yield file if count == 1 else replace(file, shown=f"{file.shown} ({count})")


def _list_one(root: int, location: Location) -> list[DataFile]:
    with foreign_errors(f"reading {location.shown}", SourceError, location):
        location.fs.invalidate_cache()
        found = _found(location)
        with ThreadPoolExecutor(THREADS) as threads:
            infos = threads.map(partial(_sized, location), found, found.values())
            known = dict(zip(found, infos, strict=True))
        return [_data_file(root, location, path, info) for path, info in sorted(known.items())]


def _sized(location: Location, path: str, info: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a file, asked for where the listing has no size, as that of a web server."""
    return info if info.get("size") is not None else dict(location.fs.info(path))


def _found(location: Location) -> dict[str, Any]:
    path = location.path.partition("?")[0] if location.protocol in WEB else location.path
    is_pattern = is_glob(path) and not (location.is_local and location.fs.isfile(location.path))
    try:
        found = matching(location) if is_pattern else below(location, location.fs.info(location.path))
    except FileNotFoundError:
        _require_bucket(location)
        raise
    if not found:
        _require_bucket(location)
        missing = "no file matches" if is_pattern else "no file in"
        msg = f"{missing} {location.shown}; check the path (names that start with . or _ are left out)"
        raise SourceError(msg)
    return found


def _require_bucket(location: Location) -> None:
    if not is_glob(location.bucket):
        location.require_bucket()


def _data_file(root: int, location: Location, path: str, info: dict[str, Any]) -> DataFile:
    version = next((str(info[name]) for name in _VERSIONS if info.get(name)), "")
    size = info.get("size")
    return DataFile(root, path, show(location, path), int(size or 0), version.strip('"'), size is not None)
