"""Staging in Google Cloud Storage: a resumable upload to the final object, which only the driver ends.

The address of an upload session allows writing to it, so it never gets into a message or log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fsspec import asyn

from raflow.connectors.files.staging.contract import StagedFile, Staging, Token

_CHUNK_BYTES = 8 << 20
_CANCEL_TIMEOUT_S = 20
_GONE = (404, 410, 499)


class GcsStaging(Staging):
    """Atomic: the store shows nothing of an upload before its last chunk.

    Chunks other than the last are multiples of 256 KiB, so up to that much travels to the driver.
    """

    def open(self, run_id: str, name: str) -> StagedFile:
        """Start a resumable upload."""
        del run_id
        return _GcsFile(self, name)

    def claim(self, run_id: str) -> Token:
        """Find out whether the folder can be written; other runs cannot see that this one is here."""
        token = super().claim(run_id)
        self.drop(token)
        return token

    def commit(self, token: Token, payload: bytes | None) -> None:
        """Send the last chunk with the total size."""
        rest, start, size = payload or b"", token["offset"], token["size"]
        if start + len(rest) != size:
            self._need_published(token)
            return
        chunk = f"{start}-{size - 1}" if rest else "*"
        headers = {"Content-Range": f"bytes {chunk}/{size}", "Content-Length": str(len(rest))}
        try:
            with hidden(token["session"]):
                self.root.fs.call("POST", token["session"], headers=headers, data=rest or None)
        except Exception as exc:
            if not _is_gone(exc):
                raise
        self._need_published(token)

    def _need_published(self, token: Token) -> None:
        if not self._is_published(token):
            msg = f"the upload of {token['name']} is gone or incomplete; run its unit of work again"
            raise OSError(msg)

    def drop(self, token: Token) -> None:
        """Cancel the upload, in one try: one that stays is invisible, free, and ends after a week."""
        asyn.sync(self.root.fs.loop, _cancel, self.root.fs, token["session"])

    def sweep(self, is_swept: Callable[[str], bool]) -> None:
        """Do nothing: sessions cannot be listed, cost nothing and end by themselves after a week."""


class _GcsFile(StagedFile):
    def __init__(self, staging: GcsStaging, name: str) -> None:
        self._staging, self._name = staging, name
        path = staging.path(name)
        options = {"block_size": _CHUNK_BYTES, "autocommit": False, "consistency": "size"}
        self._file = staging.root.fs.open(path, "wb", **options)
        if type(self._file).__name__ == "ZonalFile":
            self._file.closed = True
            msg = "zonal buckets publish a file while it is written; use a bucket of another kind"
            raise OSError(msg)

    @property
    def held(self) -> int:
        return int(self._file.buffer.tell())

    def write(self, data: Any) -> int:
        with hidden(self._file.location):
            written: int = self._file.write(data)
        return written

    def finish(self) -> tuple[Token, bytes | None]:
        size = self._file.tell()
        with hidden(self._file.location):
            self._file.close()
        rest: bytes = self._file.buffer.getvalue()
        token = {"name": self._name, "session": self._file.location, "size": size}
        return {**token, "offset": size - len(rest)}, rest

    def drop(self) -> None:
        self._file.closed = True
        if self._file.location is not None:
            self._staging.drop({"session": self._file.location})


async def _cancel(fs: Any, session: str) -> None:
    import aiohttp

    await fs._set_session()
    timeout = aiohttp.ClientTimeout(total=_CANCEL_TIMEOUT_S)
    with suppress(aiohttp.ClientError, asyncio.TimeoutError):
        async with fs.session.delete(session, headers=fs._get_headers(None), timeout=timeout):
            return


def _is_gone(exc: Exception) -> bool:
    return isinstance(exc, FileNotFoundError) or getattr(exc, "code", None) in _GONE


@contextmanager
def hidden(session: str | None) -> Iterator[None]:
    """Raise errors that name an upload session as errors that do not."""
    try:
        yield
    except Exception as exc:
        secret = (session or "").rpartition("upload_id=")[2].partition("&")[0]
        if not secret or secret not in str(exc):
            raise
        kind = FileNotFoundError if isinstance(exc, FileNotFoundError) else OSError
        msg = f"the upload session failed ({type(exc).__name__})"
        raise kind(msg) from None
