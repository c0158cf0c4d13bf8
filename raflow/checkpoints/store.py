"""Values under keys, in a folder at any fsspec URL.

Theory. A key is text with "/" between its parts, which `keys.py` makes names of without a ".". So the
ending of a value's file is never part of a name, and a key may go on below another one. A file holds
`[key, value]`: what stands under a foreign name is found out, and a part too long for a file name can
be a hash.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from enum import Enum
from typing import Any, Final

from raflow.checkpoints.codec import decode, encode
from raflow.checkpoints.keys import escaped, is_hashed, unescaped
from raflow.errors import CorruptCheckpoint, NotSerializable, ResumeError, SinkError, SourceError
from raflow.foreign import foreign_errors
from raflow.places import Location

_ENDING = ".checkpoint"
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
        self._folder = Location.of(url, storage_options)
        self.url = self._folder.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown!r})"

    @property
    def shown(self) -> str:
        """The place for messages, without secrets."""
        return self._folder.shown

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
        with foreign_errors(f"{self.shown} cannot be reached", SourceError, self._folder):
            self._folder.require_bucket()

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

    def _path(self, place: str) -> str:
        return f"{self._folder.path.rstrip('/')}/{place}"

    def _get(self, key: str, place: str) -> bytes | None:
        with foreign_errors(f"{self._named(key)} cannot be read", SourceError, self._folder):
            try:
                return bytes(self._folder.fs.cat_file(self._path(place)))
            except FileNotFoundError:
                return None

    def _put(self, key: str, place: str, data: bytes) -> None:
        with foreign_errors(f"{self._named(key)} cannot be written", SinkError, self._folder):
            self._folder.write(self._path(place), data)

    def _create(self, key: str, place: str, data: bytes) -> bool:
        with foreign_errors(f"{self._named(key)} cannot be written", SinkError, self._folder), self._one_by_one():
            fs, path = self._folder.fs, self._path(place)
            if fs.exists(path):
                return False
            try:
                self._folder.write(path, data, is_new=True)
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
        return nullcontext() if self._folder.is_on_disk or self._folder.bucket else _CREATING

    def _delete(self, key: str, place: str) -> bool:
        with foreign_errors(f"{self._named(key)} cannot be deleted", SinkError, self._folder):
            fs, path = self._folder.fs, self._path(place)
            if not fs.exists(path):
                return False
            with suppress(FileNotFoundError):
                fs.rm_file(path)
            return True

    def _places(self, folder: str) -> list[str]:
        with foreign_errors(f"{self.shown} cannot be listed", SourceError, self._folder):
            fs, root = self._folder.fs, self._path("")
            fs.invalidate_cache()
            return [path.removeprefix(root) for path in fs.find(f"{root}{folder}".rstrip("/"))]
