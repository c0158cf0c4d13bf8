"""A folder of files as a sink: what is there before, what is published and what replaced.

How its files are written is in `folder_writer.py`, how they are staged and published in `staging`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any, TypeVar

from typing_extensions import Self

from raflow.connectors.files.finding import is_hidden
from raflow.connectors.files.folder_writer import FolderWriter
from raflow.connectors.files.formats import Format
from raflow.connectors.files.staging import Staging, staging_for
from raflow.credentials import Credentials
from raflow.errors import InvalidOption, OutputExists, SinkError
from raflow.foreign import foreign_errors
from raflow.places import Location
from raflow.sinks import Part, Sink, SinkContext, Writer
from raflow.sources import Json

_PUBLISHERS = 16

Item = TypeVar("Item")


@dataclass(frozen=True)
class FolderSink(Sink):
    """Writes records as files into a folder."""

    location: Location
    """The folder."""
    format: Format
    """How files are encoded."""
    partition_by: Sequence[str] = ()
    """Columns that become hive folders, outermost first."""
    max_rows_per_file: int | None = None
    """Rows after which a further file begins."""
    if_exists: str = "error"
    """What happens when the folder holds files: error, overwrite or append."""

    def __post_init__(self) -> None:
        if self.if_exists not in ("error", "overwrite", "append"):
            msg = f'if_exists is {self.if_exists!r}; it can be "error", "overwrite" or "append"'
            raise InvalidOption(msg)
        if isinstance(self.partition_by, str):
            msg = f"partition_by is {self.partition_by!r}; give a list: [{self.partition_by!r}]"
            raise InvalidOption(msg)
        if self.max_rows_per_file is not None and self.max_rows_per_file < 1:
            msg = f"max_rows_per_file is {self.max_rows_per_file}; it must be at least 1"
            raise InvalidOption(msg)

    @property
    def local_only(self) -> bool:  # type: ignore[override]
        """True for `memory://`."""
        return self.location.is_memory

    @property
    def one_node(self) -> bool:  # type: ignore[override]
        """True for local paths."""
        return self.location.is_local

    def with_credentials(self, credentials: Credentials) -> Self:
        """Return the sink with the Flow's keys."""
        return replace(self, location=replace(self.location, credentials=credentials))

    @property
    def _staging(self) -> Staging:
        return staging_for(self.location)

    def _mapped(self, what: str) -> Any:
        return foreign_errors(f"{what} {self.location.shown}", SinkError, self.location)

    def start(self, context: SinkContext) -> Json:
        """Check the folder, sweep what dead runs have left, and return the files to replace."""
        with self._mapped("writing to"):
            self._refuse_file()
            existing = self._existing()
            self._claim(context)
            if self.if_exists == "error":
                self._existing()  # another run may have come and gone in between
        return existing if self.if_exists == "overwrite" else []

    def _existing(self) -> list[str]:
        existing = visible_files(self.location)
        if existing and self.if_exists == "error":
            raise OutputExists(self._occupied(existing))
        return existing

    def _claim(self, context: SinkContext) -> None:
        """Show that the run is here, and only then look for others: of two that start at once, each sees the other."""
        self._staging.claim(context.run_id)
        is_dead, others = cache(context.is_dead), set[str]()

        def is_swept(run_id: str) -> bool:
            if run_id != context.run_id:
                others.add(run_id)
            return run_id in others and is_dead(run_id)

        self._staging.sweep(is_swept)
        alive = sorted(filter(context.is_alive, others))
        if alive and self.if_exists == "error":
            msg = (
                f"run {alive[0]} is writing into {self.location.shown}; wait for its end or stop it, choose another "
                'folder, or set if_exists="append"'
            )
            raise OutputExists(msg)

    def _refuse_file(self) -> None:
        if self.location.fs.isfile(self.location.path.rstrip("/")):
            msg = f"{self.location.shown} is a file; a sink writes into a folder: give another path"
            raise SinkError(msg)

    def _occupied(self, existing: list[str]) -> str:
        return (
            f"{self.location.shown} already holds {len(existing)} file(s), such as {existing[0]}; set "
            'if_exists="append" or if_exists="overwrite", choose another folder, or resume the run '
            "that wrote them"
        )

    def resume(self, context: SinkContext) -> None:
        """Remove what the run's earlier processes have staged."""
        self._sweep(context)
        with self._mapped("writing to"):
            self._claim(context)

    def give_up(self, context: SinkContext) -> None:
        """Remove what the run has staged."""
        self._sweep(context)

    def open(self, context: SinkContext) -> Writer:
        """Return a writer of the folder."""
        return FolderWriter(self, self._staging, context.run_id)

    def commit(self, parts: Sequence[Part]) -> None:
        """Publish files."""
        staging = self._staging

        def publish(part: Part) -> None:
            with foreign_errors(f"publishing {part.target}", SinkError, self.location):
                staging.commit(part.token, part.payload)

        self._each(parts, publish)

    def discard(self, parts: Sequence[Part]) -> None:
        """Remove files, staged or published."""
        staging = self._staging

        def remove(part: Part) -> None:
            with foreign_errors(f"removing {part.target}", SinkError, self.location):
                staging.discard(part.token)

        self._each(parts, remove)

    def _each(self, items: Sequence[Item], act: Callable[[Item], None]) -> None:
        if len(items) < 2 or self.location.is_local or self.location.is_memory:
            for item in items:
                act(item)
            return
        with ThreadPoolExecutor(min(len(items), _PUBLISHERS)) as pool:
            list(pool.map(act, items))

    def finish(self, context: SinkContext, started: Json) -> None:
        """Delete replaced files and the run's staging."""
        with self._mapped("replacing files in"):
            self._each(started or [], self._staging.remove)
            if self.location.is_on_disk:
                _remove_empty_folders(self.location.path, started or [])
        self._sweep(context)

    def _sweep(self, context: SinkContext) -> None:
        with self._mapped("sweeping"):
            self._staging.sweep(lambda run_id: run_id == context.run_id)


def visible_files(folder: Location) -> list[str]:
    """Return the names, relative to the folder, of its files that readers see, sorted.

    Raises:
        FileNotFoundError: The bucket does not exist.
    """
    fs, root = folder.fs, folder.path.rstrip("/")
    fs.invalidate_cache()
    folder.require_bucket()
    names = (path.removeprefix(root).lstrip("/") for path in fs.find(root))
    return sorted(name for name in names if name and _is_visible(name))


def _is_visible(name: str) -> bool:
    return not any(is_hidden(step) for step in name.split("/"))


def _remove_empty_folders(root: str, names: Sequence[str]) -> None:
    folders = {parent for name in names for parent in PurePosixPath(name).parents} - {PurePosixPath()}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        # A folder that holds new files stays.
        with suppress(OSError):
            os.rmdir(os.path.join(root, folder))
