"""Staging on a local or mounted disk: a hidden folder beside the targets, published by rename."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from raflow.connectors.files.staging.contract import FOLDER, StagedFile, Staging, Token


class LocalStaging(Staging):
    """Atomic by `os.replace`, since the hidden folder is on the same file system."""

    def open(self, run_id: str, name: str) -> StagedFile:
        """Start a file in the run's hidden folder."""
        # A replica that outlived a killed driver may still write: no two attempts share a file. Without
        # the target's suffix, no glob of a reader matches it.
        staged = f"{FOLDER}{run_id}/{secrets.token_hex(8)}"
        os.makedirs(os.path.dirname(self.path(staged)), exist_ok=True)
        return _LocalFile(self.path(staged), {"name": name, "staged": staged})

    def commit(self, token: Token, payload: bytes | None) -> None:
        """Move the file to its name."""
        del payload
        target = self.named(token)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            os.replace(self.path(token["staged"]), target)
        except FileNotFoundError:
            if not self._is_published(token):
                raise

    def drop(self, token: Token) -> None:
        """Remove the staged file."""
        _unlink(self.path(token["staged"]))

    def remove(self, name: str) -> None:
        """Remove a published file."""
        _unlink(self.path(name))

    def sweep(self, is_swept: Callable[[str], bool]) -> None:
        """Remove hidden folders."""
        root = self.root.path
        for entry in os.listdir(root) if os.path.isdir(root) else []:
            if entry.startswith(FOLDER) and is_swept(entry.removeprefix(FOLDER)):
                # What cannot be removed is another user's: hidden, and no reason to stop this run.
                shutil.rmtree(self.path(entry), ignore_errors=True)


class _LocalFile(StagedFile):
    def __init__(self, path: str, token: Token) -> None:
        self._path, self._token = path, token
        self._file = open(path, "xb", buffering=1 << 18)  # noqa: SIM115 - lives longer than this call

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def finish(self) -> tuple[Token, bytes | None]:
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        self._file.close()
        return {**self._token, "size": size}, None

    def drop(self) -> None:
        try:
            self._file.close()
        finally:
            _unlink(self._path)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
