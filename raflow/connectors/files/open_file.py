"""A file of a folder sink while it is written."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import pyarrow as pa

from raflow.connectors.files.formats import FileWriter, Format
from raflow.connectors.files.staging import StagedFile
from raflow.places import Location
from raflow.sinks import Part


class OpenFile:
    """A staged file and its encoder.

    Args:
        name: Of the file when it is published, relative to the folder of the sink.
        staged: Takes its bytes.
        kind: How it is encoded.
        schema: Of its records.
    """

    def __init__(self, name: str, staged: StagedFile, kind: Format, schema: pa.Schema) -> None:
        self._name, self._staged = name, staged
        self._stream = _Stream(staged)
        self.rows = 0
        """Records so far."""
        try:
            self._writer: FileWriter = kind.open(self._stream, schema)  # type: ignore[arg-type]
        except BaseException:
            self._drop_staged()
            raise

    def write(self, records: pa.RecordBatch) -> None:
        """Take records."""
        self._writer.write(records)
        self.rows += records.num_rows

    @property
    def held(self) -> int:
        """Bytes that wait in memory, before and after encoding."""
        return self._writer.held + self._staged.held

    def flush(self) -> None:
        """Encode what waits."""
        self._writer.flush()

    def finish(self, root: Location) -> Part:
        """Settle the file and return it; `root` is the folder of the sink."""
        self._writer.close()
        token, payload = self._staged.finish()
        return Part(root.join(self._name).shown, self.rows, self._stream.size, token, payload)

    def drop(self) -> None:
        """Forget the file."""
        self._drop_staged()
        # The encoder must let go of its file too; its bytes go nowhere now.
        with suppress(Exception):
            self._writer.close()

    def _drop_staged(self) -> None:
        self._stream.is_dropped = True
        self._staged.drop()


class _Stream(io.RawIOBase):
    """The file as encoders see it: they may close it, which does not settle the staged file."""

    def __init__(self, staged: StagedFile) -> None:
        super().__init__()
        self._staged = staged
        self.size = 0
        self.is_dropped = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        if not self.is_dropped:
            self._staged.write(data)
        self.size += count
        return count

    def tell(self) -> int:
        return self.size
