"""Staging in any other fsspec store: a hidden folder, published by the store's own move."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from raflow.connectors.files.staging.contract import FOLDER, StagedFile, Staging, Token


class RenamedStaging(Staging):
    """Only as atomic as the store's move: a copy that is killed may leave a half-written target.

    Stores that rename (SFTP, SMB, HDFS, hierarchical Azure folders) and `memory://` are atomic.
    """

    def open(self, run_id: str, name: str) -> StagedFile:
        """Start a file in the run's hidden folder."""
        folder = f"{FOLDER}{run_id}"
        self.root.fs.makedirs(self.path(folder), exist_ok=True)
        return _RenamedFile(self, {"name": name, "staged": f"{folder}/{secrets.token_hex(8)}"})

    def commit(self, token: Token, payload: bytes | None) -> None:
        """Move the file to its name."""
        del payload
        fs, staged = self.root.fs, self.path(token["staged"])
        fs.invalidate_cache()
        if not fs.exists(staged) and self._is_published(token):
            return
        fs.makedirs(self.named(token).rpartition("/")[0], exist_ok=True)
        fs.mv(staged, self.named(token))

    def drop(self, token: Token) -> None:
        """Remove the staged file."""
        self.remove(token["staged"])

    def sweep(self, is_swept: Callable[[str], bool]) -> None:
        """Remove hidden folders."""
        self.root.fs.invalidate_cache()
        with suppress(FileNotFoundError):
            for path in self.root.fs.ls(self.root.path, detail=False):
                entry = path.rstrip("/").rpartition("/")[2]
                if entry.startswith(FOLDER) and is_swept(entry.removeprefix(FOLDER)):
                    self.root.fs.rm(path, recursive=True)


class _RenamedFile(StagedFile):
    def __init__(self, staging: RenamedStaging, token: Token) -> None:
        self._staging, self._token, self._size = staging, token, 0
        self._file = staging.root.fs.open(staging.path(token["staged"]), "wb")

    def write(self, data: Any) -> int:
        self._size += memoryview(data).nbytes
        self._file.write(data)
        return memoryview(data).nbytes

    def finish(self) -> tuple[Token, bytes | None]:
        self._file.close()
        return {**self._token, "size": self._size}, None

    def drop(self) -> None:
        try:
            self._file.close()
        finally:
            self._staging.drop(self._token)
