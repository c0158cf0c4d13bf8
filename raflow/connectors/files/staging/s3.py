"""Staging in S3: a multipart upload to the final key, which only the driver completes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from raflow.connectors.files.staging.contract import StagedFile, Staging, Token, run_of

_CHUNK_BYTES = 8 << 20
"""Held per open file; S3 allows 10,000 chunks, so 80 GB per file."""


class S3Staging(Staging):
    """Atomic: S3 shows nothing of an upload before it is completed, and then all of it."""

    def open(self, run_id: str, name: str) -> StagedFile:
        """Start a multipart upload; the key itself holds the run id."""
        del run_id
        return _S3File(self, name)

    def commit(self, token: Token, payload: bytes | None) -> None:
        """Complete the upload."""
        del payload
        try:
            self._call("complete_multipart_upload", token, MultipartUpload={"Parts": token["parts"]})
        except OSError:
            # Done by an earlier call, or by this one whose answer was lost.
            if not self._is_published(token):
                raise

    def drop(self, token: Token) -> None:
        """Abort the upload."""
        with suppress(FileNotFoundError):
            self._call("abort_multipart_upload", token)

    def _call(self, method: str, token: Token, **options: Any) -> Any:
        bucket, key, _ = self.root.fs.split_path(self.named(token))
        return self.root.fs.call_s3(method, Bucket=bucket, Key=key, UploadId=token["upload"], **options)

    def sweep(self, is_swept: Callable[[str], bool]) -> None:
        """Abort uploads: they are invisible, but cost money until they are."""
        bucket, prefix, _ = self.root.fs.split_path(self.path(""))
        for upload in list(self._uploads(bucket, prefix)):
            run_id = run_of(upload["Key"])
            if run_id is not None and is_swept(run_id):
                self.drop({"name": upload["Key"].removeprefix(prefix), "upload": upload["UploadId"]})

    def _uploads(self, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
        position: dict[str, str] = {}
        while True:
            page = self.root.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **position)
            yield from page.get("Uploads", [])
            if not page.get("IsTruncated"):
                return
            position = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


class _S3File(StagedFile):
    def __init__(self, staging: S3Staging, name: str) -> None:
        self._staging, self._name = staging, name
        path = staging.path(name)
        self._file = staging.root.fs.open(path, "wb", block_size=_CHUNK_BYTES, autocommit=False)

    @property
    def held(self) -> int:
        return self._file.buffer.tell() if self._file.buffer is not None else 0

    def write(self, data: Any) -> int:
        written: int = self._file.write(data)
        return written

    def finish(self) -> tuple[Token, bytes | None]:
        size = self._file.tell()
        self._file.close()
        token = {"name": self._name, "upload": self._file.mpu["UploadId"], "size": size}
        # S3 completes no upload without chunks; an empty one makes an empty file.
        return {**token, "parts": self._file.parts or [self._empty_chunk(token)]}, None

    def _empty_chunk(self, token: Token) -> dict[str, Any]:
        answer = self._staging._call("upload_part", token, PartNumber=1, Body=b"")
        return {"PartNumber": 1, "ETag": answer["ETag"]}

    def drop(self) -> None:
        self._file.closed = True
        with suppress(FileNotFoundError):
            self._file.discard()
