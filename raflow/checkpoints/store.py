"""Values under keys, in a folder at any fsspec URL.

Theory. A key is text with "/" between its parts, which `keys.py` makes names of without a ".". So the
ending of a value's file is never part of a name, and a key may go on below another one. A file holds
`[key, value]`: what stands under a foreign name is found out, and a part too long for a file name can
be a hash.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from enum import Enum
from functools import cached_property
from typing import Any, Final

from raflow.checkpoints.codec import decode, encode
from raflow.checkpoints.keys import escaped, is_hashed, unescaped
from raflow.credentials import redact
from raflow.errors import (
    ConnectorError,
    CorruptCheckpoint,
    InvalidOption,
    MissingExtra,
    NotSerializable,
    RaflowError,
    ResumeError,
    SinkError,
    SourceError,
)

_ENDING = ".checkpoint"
_SECRET = re.compile("secret|token|password")
_BUCKETS = {"s3", "s3a", "gs", "gcs"}
_CREATING = threading.Lock()


class _Missing(Enum):
    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing.MISSING
"""What `Checkpoints.read` returns where there is nothing; a stored None is None."""


class Checkpoints:
    """Values that outlive their process, each under a key.

    A value is there whole or not at all, also after a kill in the middle of writing. What is read is
    a new value every time. Pickles: read only from a place that nobody else may write to.

    Args:
        url: A folder as path or fsspec URL: `s3://bucket/runs`, `gs://…`, `memory://…` (this process only).
        storage_options: Keyword arguments for fsspec; without them keys come from the environment.
    """

    def __init__(self, url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> None:
        path = os.fspath(url)
        self.url = path if "://" in path or "::" in path else os.path.abspath(os.path.expanduser(path))
        self._options = dict(storage_options or {})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_reached"}

    @property
    def shown(self) -> str:
        """The place for messages, without secrets."""
        return redact(self.url)

    def read(self, key: str) -> Any:
        """Return the value of a key, or MISSING.

        Raises:
            CorruptCheckpoint: What is there is damaged, or is no value of this key.
            ResumeError: A class of the value is gone or has other fields now.
            SourceError: The place cannot be read.
        """
        data = self._get(key, self._place(key))
        return MISSING if data is None else self._unpacked(key, data)

    def write(self, key: str, value: Any) -> None:
        """Set the value of a key, durably and in one piece.

        Raises:
            NotSerializable: The value cannot be stored.
            SinkError: The place cannot be written.
        """
        self._put(key, self._place(key), self._packed(key, value))

    def create(self, key: str, value: Any) -> bool:
        """Set the value of a key that has none; of several processes at once one succeeds.

        Returns:
            False if the key has a value already, which stays.

        Raises:
            NotSerializable: The value cannot be stored.
            SinkError: The place cannot be written.
        """
        return self._create(key, self._place(key), self._packed(key, value))

    def delete(self, key: str) -> bool:
        """Remove the value of a key; return whether there was one.

        Raises:
            SinkError: The place cannot be written.
        """
        return self._delete(key, self._place(key))

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a prefix, sorted.

        Raises:
            SourceError: The place cannot be read.
        """
        folder = "/".join(escaped(part) for part in prefix.split("/")[:-1])
        found = (self._key(place) for place in self._places(folder))
        return sorted(key for key in found if key is not None and key.startswith(prefix))

    def check(self) -> None:
        """Ask whether the place can be reached, so that an error comes before any work.

        Raises:
            SourceError: It cannot; a bucket that is not there is named.
        """
        with self._reaching(f"{self.shown} cannot be reached", SourceError):
            fs, path = self._reached
            if self._is_bucket:
                fs.info(path.partition("/")[0])

    def _place(self, key: str) -> str:
        return "/".join(map(escaped, key.split("/"))) + _ENDING

    def _key(self, place: str) -> str | None:
        """Return the key of a file's place; None for a file that is none of ours."""
        if not place.endswith(_ENDING):
            return None
        parts = place.removesuffix(_ENDING).split("/")
        if not any(is_hashed(part) for part in parts):
            return "/".join(map(unescaped, parts))
        data = self._get(place, place)
        return None if data is None else str(self._content(place, data)[0])

    def _packed(self, key: str, value: Any) -> bytes:
        try:
            return encode([key, value], "")
        except NotSerializable as error:
            msg = f"{self._named(key)} cannot be written: result{str(error).removeprefix('[1]')}"
            raise NotSerializable(msg) from error.__cause__

    def _unpacked(self, key: str, data: bytes) -> Any:
        content = self._content(key, data)
        if content[0] != key:
            msg = f"{self._named(key)} is the checkpoint of {content[0]!r}: a file was copied or renamed"
            raise CorruptCheckpoint(msg)
        return content[1]

    def _content(self, key: str, data: bytes) -> list[Any]:
        try:
            content = decode(data)
        except ResumeError as error:
            hint = "; delete it to run the step again" if isinstance(error, CorruptCheckpoint) else ""
            msg = f"{self._named(key)} cannot be used: {error}{hint}"
            raise type(error)(msg) from error
        if type(content) is not list or len(content) != 2:
            msg = f"{self._named(key)} is no checkpoint but an encoded {type(content).__name__}"
            raise CorruptCheckpoint(msg)
        return content

    def _named(self, key: str) -> str:
        return f"checkpoint {key!r} at {self.shown}"

    @cached_property
    def _reached(self) -> tuple[Any, str]:
        """The file system and the folder's path in it."""
        from fsspec.core import url_to_fs

        # A kept listing would hide what another process has written since.
        fresh = {"use_listings_cache": False} if self._is_bucket else {}
        try:
            fs, path = url_to_fs(self.url, **{**fresh, **self._options})
        except ImportError as error:
            msg = f"{self.shown} needs a package that is not installed: {error}"
            raise MissingExtra(msg) from error
        except ValueError as error:
            msg = f"{self.shown} is not a path or URL that can be opened: {redact(str(error))}"
            raise InvalidOption(msg) from error
        return fs, path.rstrip("/")

    @property
    def _is_bucket(self) -> bool:
        return self.url.partition("://")[0] in _BUCKETS

    @property
    def _is_local(self) -> bool:
        return "::" not in self.url and self.url.partition("://")[0] in (self.url, "file", "local")

    @contextmanager
    def _reaching(self, what: str, kind: type[ConnectorError]) -> Iterator[None]:
        try:
            yield
        except RaflowError:
            raise
        except Exception as error:
            msg = f"{what}: {_explained(error)}"
            for secret in self._secrets:
                msg = msg.replace(secret, "***")
            raise kind(msg) from error

    @property
    def _secrets(self) -> list[str]:
        """What drivers might repeat in their errors."""
        user, at, _ = self.url.partition("://")[2].partition("/")[0].rpartition("@")
        named = [value for name, value in self._options.items() if isinstance(value, str) and _SECRET.search(name)]
        return [one for one in (user + at, *named) if one]

    def _get(self, key: str, place: str) -> bytes | None:
        with self._reaching(f"{self._named(key)} cannot be read", SourceError):
            fs, root = self._reached
            try:
                return bytes(fs.cat_file(f"{root}/{place}"))
            except FileNotFoundError:
                return None

    def _put(self, key: str, place: str, data: bytes) -> None:
        with self._reaching(f"{self._named(key)} cannot be written", SinkError):
            fs, root = self._reached
            if self._is_local:
                _write_durably(f"{root}/{place}", data, os.replace)
            else:
                fs.pipe_file(f"{root}/{place}", data)

    def _create(self, key: str, place: str, data: bytes) -> bool:
        with self._reaching(f"{self._named(key)} cannot be written", SinkError), self._one_by_one():
            fs, root = self._reached
            path = f"{root}/{place}"
            if fs.exists(path):
                return False
            try:
                if self._is_local:
                    _write_durably(path, data, os.link)
                else:
                    fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                # Not every S3 says which condition failed.
                if error.errno != errno.EINVAL or not fs.exists(path):
                    raise
                return False
            return True

    def _one_by_one(self) -> AbstractContextManager[Any]:
        """Disks and buckets choose the first creation by themselves."""
        return nullcontext() if self._is_local or self._is_bucket else _CREATING

    def _delete(self, key: str, place: str) -> bool:
        with self._reaching(f"{self._named(key)} cannot be deleted", SinkError):
            fs, root = self._reached
            path = f"{root}/{place}"
            if not fs.exists(path):
                return False
            with suppress(FileNotFoundError):
                fs.rm_file(path)
            return True

    def _places(self, folder: str) -> list[str]:
        with self._reaching(f"{self.shown} cannot be listed", SourceError):
            fs, root = self._reached
            fs.invalidate_cache()
            found = fs.find(f"{root}/{folder}".rstrip("/"))
            return [path.removeprefix(root).lstrip("/") for path in found]


def _explained(error: Exception) -> str:
    text = redact(str(error))
    if "NoSuchBucket" in text or "bucket does not exist" in text.lower():
        return "the bucket does not exist; check its name"
    if isinstance(error, FileNotFoundError):
        return "it does not exist; check its name"
    if isinstance(error, PermissionError) or text.startswith("Forbidden"):
        return f"no permission; check the rights of this user or the credentials ({text})"
    if "credentials" in type(error).__name__.lower():
        return f"no usable credentials ({text}); give them in the environment or in storage_options"
    return text or type(error).__name__


def _write_durably(path: str, data: bytes, publish: Callable[[str, str], None]) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
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
