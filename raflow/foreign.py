"""Errors of disks, object stores and file formats, told as raflow's own."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

from raflow.credentials import redact
from raflow.errors import ConnectorError, RaflowError
from raflow.places import Location

_DRIVERS = {"aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "requests", "s3fs"}
_FORMATS = {"_lzma", "pyarrow", "zipfile", "zlib"}
"""Packages whose own errors tell of broken files; to import them for their types takes long."""


@contextmanager
def foreign_errors(what: str, error: type[ConnectorError], place: Location) -> Iterator[None]:
    """Raise errors of disks, object stores and Arrow as raflow's own.

    Args:
        what: What was tried, on which named thing, e.g. `reading s3://raw/trips.parquet`.
        error: `SourceError` or `SinkError`.
        place: Where; its secrets are in no message.
    """
    try:
        yield
    except Exception as exc:
        if not _is_foreign(exc):
            raise
        msg = f"{redact(what)}: {_explain(exc, place)}"
        raise error(msg) from exc


def _is_foreign(exc: Exception) -> bool:
    if isinstance(exc, RaflowError):
        return False
    if isinstance(exc, (EOFError, OSError, UnicodeError)):
        return True
    raised_by = type(exc).__module__.partition(".")[0]
    frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(exc.__traceback__)]
    packages = {raised_by, *(name.partition(".")[0] for name in frames[-1:])}
    return raised_by in _FORMATS or not packages.isdisjoint(_DRIVERS)


def _explain(exc: Exception, place: Location) -> str:
    text = place.redacted(str(exc))
    code = getattr(exc, "code", None)
    if isinstance(exc, UnicodeDecodeError):
        bad = exc.object[exc.start : exc.end].hex(" ")
        return f"bytes {bad} are no {exc.encoding} ({exc.reason}); check encoding= or mend the file"
    if "bucket does not exist" in text.lower() or "NoSuchBucket" in text:
        named = f" {place.bucket!r}" if place.bucket else ""
        return place.redacted(f"the bucket{named} does not exist; check its name")
    if isinstance(exc, FileNotFoundError) or code == 404:
        return "it does not exist; check the path"
    if isinstance(exc, PermissionError) or code in (401, 403) or text.startswith("Forbidden"):
        return f"no permission; check the rights of this user or the credentials ({text})"
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the disk; free some and resume the run"
    if "credentials" in type(exc).__name__.lower():
        return f"no usable credentials ({text}); give keys in FlowOptions, storage_options or the environment"
    return text or type(exc).__name__
