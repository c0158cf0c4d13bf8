"""One path or URL with what is needed to reach it, and the mapping of foreign errors to raflow's own.

Reading is in `files.py` and the formats, writing in `writing.py`.
"""

from __future__ import annotations

import errno
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from traceback import walk_tb
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
from fsspec.core import url_to_fs
from typing_extensions import Self

from raflow.credentials import Credentials, redact
from raflow.errors import ConnectorError, InvalidOption, MissingExtra, RaflowError

_BROKEN = (pa.ArrowException, UnicodeError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_FOREIGN_PACKAGES = {"aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "requests", "s3fs"}
BUCKET_PROTOCOLS = {"s3", "s3a", "gs", "gcs"}
"""Object stores: the first part of a path names a bucket."""
_CACHES = {"blockcache", "cached", "filecache", "simplecache"}
"""First links of a chain which leave the paths of the next one as they are."""


@dataclass(frozen=True)
class Location:
    """One path or URL; pickles without its connection, which is made in the process that uses it."""

    url: str
    """As given; a local path is absolute."""
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    """The user's keyword arguments for fsspec."""
    credentials: Credentials | None = field(default=None, repr=False)
    """Keys of the Flow, used when there are no storage options."""

    @classmethod
    def of(cls, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Self:
        """Return the location of a path as a user gives it."""
        url = os.fspath(path)
        if "://" not in url and "::" not in url:
            folder = "/" if url.endswith("/") else ""
            url = os.path.abspath(os.path.expanduser(url)).rstrip("/") + folder
        return cls(url, dict(storage_options) if storage_options is not None else None)

    def __repr__(self) -> str:
        return f"Location({self.shown!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("fs", "path", "_reached")}

    @cached_property
    def _reached(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            fs, path = url_to_fs(self.url, skip_instance_cache="::" in self.url, **self._options())
            return fs, path
        except RaflowError:
            raise
        except ImportError as exc:
            package = getattr(exc.__cause__, "name", None) or exc.name
            how = f"pip install {package}" if package else str(exc)
            msg = f"{self.shown} needs a package that is not installed: {how}"
            raise MissingExtra(msg) from exc
        except ValueError as exc:
            msg = f"{self.shown} is not a path or URL that can be opened: {redact(str(exc))}"
            raise InvalidOption(msg) from exc

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = dict(self.storage_options or {})
        for protocol in self._protocols:
            if protocol in BUCKET_PROTOCOLS:
                # A kept listing would hide what another process has written since.
                keys = self._keys(protocol)
                nested = {"use_listings_cache": False, **keys, **options.get(protocol, {})}
                options[protocol] = nested
        return options

    def _keys(self, protocol: str) -> dict[str, Any]:
        if self.storage_options or self.credentials is None:
            return {}
        return self.credentials.storage_options(protocol)

    @property
    def _protocols(self) -> list[str]:
        return [_protocol(link) for link in self.url.split("::")]

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The connection, made at first use in each process.

        Raises:
            MissingExtra: The URL's driver is not installed.
            InvalidOption: No driver knows the URL.
        """
        return self._reached[0]

    @property
    def path(self) -> str:
        """The path as the connection wants it, without protocol."""
        return self._reached[1]

    @property
    def protocol(self) -> str:
        """The URL's protocol; `file` for plain paths."""
        return self._protocols[0]

    @property
    def is_local(self) -> bool:
        """Whether the data is on a disk of this node."""
        return self._protocols[-1] in ("file", "local")

    @property
    def is_memory(self) -> bool:
        """Whether the data exists in this process only."""
        return self._protocols[-1] == "memory"

    @property
    def store(self) -> tuple[str, ...]:
        """What tells equal paths of several locations apart: protocol and host, and what an archive lies in."""
        first, *outer = self._links
        said = (f"{name}={value}" for name, value in sorted(self._server.items()))
        return (fsspec.get_filesystem_class(_protocol(first)).__name__, *said, *outer)

    @property
    def host(self) -> str:
        """The URL's host, if paths do not hold it; else empty."""
        return str(self._server.get("host") or "")

    @property
    def _links(self) -> list[str]:
        links = self.url.split("::")
        return links[1:] if len(links) > 1 and links[0] in _CACHES else links

    @property
    def _server(self) -> dict[str, Any]:
        """What the URL says to the driver besides a path."""
        first = self._links[0]
        said = fsspec.get_filesystem_class(_protocol(first))._get_kwargs_from_urls(first)
        return {name: said[name] for name in said.keys() - {"path", "protocol", "url_query", "url_fragment"}}

    @property
    def shown(self) -> str:
        """The URL for messages, without secrets."""
        return redact(self.url)

    def join(self, name: str) -> Location:
        """Return the location of a name inside this folder."""
        head, chain, tail = self.url.partition("::")
        if chain and "://" not in head:
            head, chain, tail = self.url, "", ""
        url = f"{head.rstrip('/')}/{name}{chain}{tail}"
        return Location(url, self.storage_options, self.credentials)

    def open(self, path: str) -> BinaryIO:
        """Return a file under this location, opened to be read in large steps."""
        if self.is_memory:
            # An open file of this file system is shared, position and all.
            return io.BytesIO(self.fs.cat_file(path))
        if self.is_local and "::" not in self.url:
            return open(path, "rb")
        file: BinaryIO = self.fs.open(path, "rb", cache_type="none")
        return file


def _protocol(link: str) -> str:
    """Return the protocol of one link; in a chain such as `simplecache::s3://…` it may stand alone."""
    if "://" in link:
        return link.split("://", 1)[0]
    return link if link in fsspec.available_protocols() else "file"


@contextmanager
def foreign_errors(what: str, error: type[ConnectorError]) -> Iterator[None]:
    """Raise errors of disks, object stores and Arrow as raflow's own.

    Args:
        what: What was tried, on which named thing, e.g. `reading s3://raw/trips.parquet`.
        error: `SourceError` or `SinkError`.
    """
    try:
        yield
    except Exception as exc:
        if not _is_foreign(exc):
            raise
        msg = f"{redact(what)}: {_explain(exc)}"
        raise error(msg) from exc


def _is_foreign(exc: Exception) -> bool:
    if isinstance(exc, RaflowError):
        return False
    raised_in = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(exc.__traceback__)]
    packages = {name.partition(".")[0] for name in (type(exc).__module__, *raised_in[-1:])}
    return isinstance(exc, (OSError, *_BROKEN)) or not packages.isdisjoint(_FOREIGN_PACKAGES)


def _explain(exc: Exception) -> str:
    text = redact(str(exc))
    code = getattr(exc, "code", None)
    if isinstance(exc, UnicodeDecodeError):
        bad = exc.object[exc.start : exc.end].hex(" ")
        return f"bytes {bad} are no {exc.encoding} ({exc.reason}); check encoding= or mend the file"
    if "bucket does not exist" in text.lower() or "NoSuchBucket" in text:
        return "the bucket does not exist; check its name"
    if isinstance(exc, FileNotFoundError) or code == 404:
        return "it does not exist; check the path"
    if isinstance(exc, PermissionError) or code in (401, 403):
        return f"no permission; check the rights of this user or the credentials ({text})"
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the disk; free some and resume the run"
    if "credentials" in type(exc).__name__.lower():
        return f"no usable credentials ({text}); give keys to FlowOptions or storage_options"
    return text or type(exc).__name__
