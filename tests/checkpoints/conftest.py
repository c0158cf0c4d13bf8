"""An empty place for checkpoints of each kind."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from raflow.checkpoints.memory import MemoryCheckpoints
from raflow.checkpoints.store import Checkpoints
from tests.stores import Bucket


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Checkpoints]:
    """Returns the place of a kind: folder, dictionary, memory, s3 or gcs."""

    def of(kind: str) -> Checkpoints:
        if kind in ("s3", "gcs"):
            bucket: Bucket = request.getfixturevalue(kind)
            return Checkpoints(f"{bucket.url}/runs", bucket.storage_options)
        if kind == "dictionary":
            return MemoryCheckpoints()
        return Checkpoints(tmp_path / "runs" if kind == "folder" else f"memory://{uuid.uuid4().hex}")

    return of
