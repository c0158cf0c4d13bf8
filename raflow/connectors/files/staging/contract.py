"""What every kind of store does to stage and publish a file.

Here are no checks of names and no mapping of errors: the sink does both.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from raflow.places import Location

Token: TypeAlias = dict[str, Any]
"""What another process needs to publish or remove a staged file; plain JSON values."""

FOLDER = ".raflow-"
"""Hidden folders of this name plus run id hold what is staged in stores that can rename."""
_PART_OF_RUN = re.compile(r"part-(?P<run>.+)-[^-]*-\d+-\d+\.")


def run_of(name: str) -> str | None:
    """Return the id of the run that wrote a file of this name, or None if none did.

    Names are `part-<run id>-<unit>-<attempt>-<n>.<suffix>`; units are quoted to hold no dash.
    """
    found = _PART_OF_RUN.match(name.rpartition("/")[2])
    return found["run"] if found else None


class StagedFile(ABC):
    """One file that is being staged, by one thread."""

    @property
    def held(self) -> int:
        """Bytes that wait in memory."""
        return 0

    @abstractmethod
    def write(self, data: Any) -> int:
        """Append bytes."""

    @abstractmethod
    def finish(self) -> tuple[Token, bytes | None]:
        """Settle what was written and return what publishing it needs; the bytes are the remainder."""

    @abstractmethod
    def drop(self) -> None:
        """Forget what was written. Called instead of `finish`, or after it has failed."""


class Staging(ABC):
    """Stages and publishes files in one folder; holds no state, so any process may do the next step."""

    def __init__(self, root: Location) -> None:
        self.root = root

    def path(self, name: str) -> str:
        """Return the store's path of a name in the folder."""
        return f"{self.root.path.rstrip('/')}/{name}"

    def named(self, token: Token) -> str:
        """Return the store's path of the published file of a token."""
        return self.path(token["name"])

    @abstractmethod
    def open(self, run_id: str, name: str) -> StagedFile:
        """Start a file that will be published under a name, relative to the folder."""

    @abstractmethod
    def commit(self, token: Token, payload: bytes | None) -> None:
        """Publish a file; no error if that has been done already."""

    @abstractmethod
    def drop(self, token: Token) -> None:
        """Remove what is staged of a file; no error if it is gone."""

    def discard(self, token: Token) -> None:
        """Remove a file, staged or published; no error if it is gone."""
        self.drop(token)
        self.remove(token["name"])

    def remove(self, name: str) -> None:
        """Remove a published file; no error if it is gone."""
        with suppress(FileNotFoundError):
            self.root.fs.rm_file(self.path(name))

    @abstractmethod
    def sweep(self, is_swept: Callable[[str], bool]) -> None:
        """Remove everything that runs with the chosen ids have staged here."""

    def claim(self, run_id: str) -> Token:
        """Stage a byte: it shows that the folder can be written, and to other runs that this one is here.

        It stays until what the run has staged is swept.
        """
        file = self.open(run_id, f"part-{run_id}-claim-0-0.tmp")
        try:
            file.write(b"?")
            return file.finish()[0]
        except BaseException:
            file.drop()
            raise

    def _is_published(self, token: Token) -> bool:
        self.root.fs.invalidate_cache()
        try:
            found: int = self.root.fs.info(self.named(token))["size"]
        except FileNotFoundError:
            return False
        return bool(found == token["size"])
