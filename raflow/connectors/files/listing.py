"""Which files a path, glob, directory or list of them stands for, and what their folders' names say.

Reading what is in the files is up to the formats.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from raflow.connectors.files.links import BROKEN, LinkedFileSystem
from raflow.credentials import redact
from raflow.errors import SourceError
from raflow.foreign import foreign_errors
from raflow.places import Location
from raflow.sources import Input

THREADS = 16
"""Requests that run at once while files are listed and footers are read."""

_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
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


def show(location: Location, path: str) -> str:
    """Return a file's path or URL for messages."""
    if location.is_on_disk:
        return path
    head, _, tail = location.url.partition("::")
    with foreign_errors(f"opening {location.shown}", SourceError, location):
        url = location.fs.unstrip_protocol(path)
        url = url.replace(":///", f"://{location.host}/", 1) if location.host else url
    return redact(f"{url}::{tail}" if tail and "://" in head else url)


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
    path = location.path.partition("?")[0] if location.protocol in ("http", "https") else location.path
    is_pattern = is_glob(path) and not (location.is_local and location.fs.isfile(location.path))
    try:
        found = _match(location) if is_pattern else _below(location, location.fs.info(location.path))
    except FileNotFoundError:
        _require_bucket(location)
        raise
    if not found:
        _require_bucket(location)
        _require_readable(location, [_fixed(location.path)] if is_pattern else [])
        missing = "no file matches" if is_pattern else "no file in"
        msg = f"{missing} {location.shown}; check the path (names that start with . or _ are left out)"
        raise SourceError(msg)
    return found


def _require_bucket(location: Location) -> None:
    if not is_glob(location.bucket):
        location.require_bucket()


def _require_readable(location: Location, folders: Iterable[str]) -> None:
    """Raise if a folder may not be listed, which fsspec does not tell from an empty one."""
    for folder in folders if location.is_on_disk else ():
        if os.path.isdir(folder):
            os.scandir(folder).close()


def is_glob(path: str) -> bool:
    """Return whether the path is a pattern."""
    return any(sign in path for sign in "*?[")


def _match(location: Location) -> dict[str, Any]:
    found = _fs(location).glob(location.path, detail=True)
    files = _visible(found, _fixed(location.path))
    if files:
        return files
    folders = (info for info in found.values() if info["type"] == "directory")
    return {path: info for folder in folders for path, info in _below(location, folder).items()}


def _fs(location: Location) -> Any:
    """Return what lists files: on a local disk links are followed."""
    return LinkedFileSystem() if location.is_on_disk else location.fs


def _fixed(pattern: str) -> str:
    """Return the folder above the first sign of a pattern."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]


def _below(location: Location, info: dict[str, Any]) -> dict[str, Any]:
    if info["type"] != "directory":
        return {location.path: info}
    folder = str(info["name"])
    found = _fs(location).find(folder, detail=True, withdirs=location.is_on_disk)
    folders = [path for path, one in found.items() if one["type"] == "directory" and _is_data(path, folder)]
    _require_readable(location, [folder, *folders])
    return _visible(found, folder)


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


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is no data: `.a` and `_a` are not, but `_a=1` is a partition."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _data_file(root: int, location: Location, path: str, info: dict[str, Any]) -> DataFile:
    version = next((str(info[name]) for name in _VERSIONS if info.get(name)), "")
    size = info.get("size")
    return DataFile(root, path, show(location, path), int(size or 0), version.strip('"'), size is not None)


def partition_values(path: str) -> dict[str, str | None]:
    """Return what the `key=value` folders right above a file say."""
    values: dict[str, str | None] = {}
    for folder in reversed(path.split(os.sep if os.sep in path else "/")[:-1]):
        key, sign, value = folder.partition("=")
        if not (key and sign):
            break
        values[unquote(key)] = None if value == _NULL_PARTITION else unquote(value)
    return dict(reversed(values.items()))


def partition_scalars(path: str, shown: str, columns: pa.Schema) -> dict[str, pa.Scalar]:
    """Return what the folders right above a file say of the wanted columns, in their types.

    Args:
        path: Of the file.
        shown: The file for messages.
        columns: What is wanted.

    Raises:
        SourceError: A value is none of its column's type; names file and folder.
    """
    said = partition_values(path)
    return {name: _scalar(shown, name, said[name], columns.field(name).type) for name in said if name in columns.names}


def _scalar(shown: str, name: str, value: str | None, kind: pa.DataType) -> pa.Scalar:
    try:
        return pa.scalar(value, pa.string()).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        msg = f"{shown}: {value!r} of its folder {name}={value} is not {kind}; rename it or take {name!r} as string"
        raise SourceError(msg) from exc


def partition_schema(paths: Iterable[str]) -> pa.Schema:
    """Return the columns that folders' names add: int64 where all values are integers, else string."""
    seen: dict[str, set[str | None]] = {}
    for path in paths:
        for key, value in partition_values(path).items():
            seen.setdefault(key, set()).add(value)
    return pa.schema([(key, _partition_type(values - {None})) for key, values in seen.items()])


def _partition_type(values: Iterable[Any]) -> pa.DataType:
    values = list(values)
    if not values:
        return pa.null()
    # The zeros of the zip code 00501 belong to it; those of the month 01 and the hour 00 do not.
    return pa.int64() if all(re.fullmatch(r"0[0-9]?|-?[1-9][0-9]{0,17}", value) for value in values) else pa.string()
