"""A path or URL with what is needed to reach it, and how a file there is written in one piece."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

from typing_extensions import Self

from raflow.credentials import Credentials, redact, secrets_of
from raflow.errors import InvalidOption, MissingExtra, RaflowError

if TYPE_CHECKING:
    # Imported where it is used: processes that reach no place start sooner without it.
    import fsspec

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
        return {name: value for name, value in vars(self).items() if name != "_reached"}

    @cached_property
    def _reached(self) -> tuple[fsspec.AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

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
            msg = f"{self.shown} is not a path or URL that can be opened: {self.redacted(str(exc))}"
            raise InvalidOption(msg) from exc

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = dict(self.storage_options or {})
        for protocol in self._protocols:
            if protocol in BUCKET_PROTOCOLS:
                # A kept listing would hide what another process has written since.
                keys = self._keys(protocol)
                options[protocol] = {"use_listings_cache": False, **keys, **options.get(protocol, {})}
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
    def bucket(self) -> str:
        """The bucket; empty where there are none."""
        return self.url.partition("://")[2].partition("/")[0] if self.protocol in BUCKET_PROTOCOLS else ""

    @property
    def is_local(self) -> bool:
        """Whether the data is on a disk of this node, be it within an archive."""
        return self._protocols[-1] in ("file", "local")

    @property
    def is_on_disk(self) -> bool:
        """Whether paths are those of a disk of this node."""
        return self.is_local and "::" not in self.url

    @property
    def is_memory(self) -> bool:
        """Whether the data exists in this process only."""
        return self._protocols[-1] == "memory"

    @property
    def store(self) -> tuple[str, ...]:
        """What tells equal paths of several locations apart: protocol and host, and what an archive lies in."""
        first, *outer = self._links
        said = (f"{name}={value}" for name, value in sorted(self._server.items()))
        return (_filesystem(first).__name__, *said, *outer)

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
        said = _filesystem(first)._get_kwargs_from_urls(first)
        return {name: said[name] for name in said.keys() - {"path", "protocol", "url_query", "url_fragment"}}

    @property
    def shown(self) -> str:
        """The URL for messages, without secrets."""
        return redact(self.url)

    def redacted(self, text: str) -> str:
        """Return what a driver says without the secrets with which this place is reached."""
        keys = self.credentials.secrets if self.credentials else []
        for secret in (*secrets_of(self.url, self.storage_options or {}), *keys):
            text = text.replace(secret, "***")
        return redact(text)

    def join(self, name: str) -> Location:
        """Return the location of a name inside this folder."""
        head, chain, tail = self.url.partition("::")
        if chain and "://" not in head:
            head, chain, tail = self.url, "", ""
        url = f"{head.rstrip('/')}/{name}{chain}{tail}"
        return Location(url, self.storage_options, self.credentials)

    def require_bucket(self) -> None:
        """Raise if there is no such bucket, which object stores do not always tell from a missing file.

        Raises:
            FileNotFoundError: There is none.
        """
        fs, bucket = self.fs, self.bucket
        try:
            if bucket:
                fs.info(bucket)
        except FileNotFoundError as exc:
            msg = "the bucket does not exist"
            raise FileNotFoundError(msg) from exc

    def open(self, path: str) -> BinaryIO:
        """Return a file under this location, opened to be read in large steps."""
        if self.is_memory:
            # An open file of this file system is shared, position and all.
            return io.BytesIO(self.fs.cat_file(path))
        if self.is_on_disk:
            return open(path, "rb")
        file: BinaryIO = self.fs.open(path, "rb", cache_type="none")
        return file

    def write(self, path: str, data: bytes, *, is_new: bool = False, folder_mode: int = 0o777) -> None:
        """Write a file under this location, in one piece.

        Args:
            path: As the connection wants it.
            data: What the file holds.
            is_new: Whether it may not be there yet; not every store says so with FileExistsError.
            folder_mode: Of a folder on a disk that is made for the file.

        Raises:
            FileExistsError: It is there, but must be new.
            FileNotFoundError: There is no such bucket.
        """
        if self.is_on_disk:
            write_durably(path, data, os.link if is_new else os.replace, folder_mode)
            return
        try:
            self.fs.pipe_file(path, data, **({"mode": "create"} if is_new else {}))
        except FileNotFoundError:
            self.require_bucket()
            raise


def _protocol(link: str) -> str:
    """Return the protocol of one link; in a chain such as `simplecache::s3://…` it may stand alone."""
    if "://" in link:
        return link.split("://", 1)[0]
    from fsspec import available_protocols

    return link if link in available_protocols() else "file"


def _filesystem(link: str) -> Any:
    from fsspec import get_filesystem_class

    return get_filesystem_class(_protocol(link))


def write_durably(path: str, data: bytes, publish: Callable[[str, str], None], folder_mode: int = 0o777) -> None:
    """Write a file on a disk under a hidden name, which `publish` turns into its own; nothing else stays."""
    folder = os.path.dirname(path)
    os.makedirs(folder, folder_mode, exist_ok=True)
    hidden = f"{folder}/.{secrets.token_hex(8)}.tmp"
    try:
        with open(hidden, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        publish(hidden, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(hidden)
