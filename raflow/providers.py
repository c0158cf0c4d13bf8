"""Where a workflow keeps the results of its tasks.

Any object with `post`, `get` and `key` is a storage; four come with raflow, over memory, files, S3 and
Google Cloud Storage. They keep every type that `raflow.checkpoints` knows: lists, tuples, sets and None
come back as they were.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any

from raflow.checkpoints.keys import join
from raflow.checkpoints.memory import MemoryCheckpoints
from raflow.checkpoints.store import MISSING, Checkpoints
from raflow.errors import CorruptCheckpoint, NotSerializable
from raflow.workflows.context import Context

__all__ = ["Storage", "StorageDefault", "StorageFile", "StorageGCS", "StorageS3", "find"]


class Storage(ABC):
    """What a workflow asks of the place of its results; a class of yours needs these three methods."""

    @abstractmethod
    def post(self, key: str, context: Context) -> None:
        """Keep a context under a key, in place of an earlier one."""

    @abstractmethod
    def get(self, key: str) -> Context:
        """Return the context of a key; one whose `storage` is None where there is none."""

    @abstractmethod
    def key(self, task: Any) -> str:
        """Return the key of a task, the same in every process."""

    def has(self, key: str) -> bool:
        """Return whether a key has a context, be its `storage` None."""
        found = self.get(key)
        return isinstance(found, Context) and (found.storage is not None or bool(found.task_id))


def find(storage: Any, key: str) -> Context | None:
    """Return the context of a key in any storage, or None where there is none.

    A stored None is a result. A storage without `has` is believed to hold one if the context that it
    returns knows its task.
    """
    has = getattr(storage, "has", None) or (lambda key: Storage.has(storage, key))
    return storage.get(key) if has(key) else None


class _Stored(Storage):
    """A storage over checkpoints.

    Attributes:
        checkpoints: Where the contexts are, with its own methods.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.checkpoints.shown!r})"

    def post(self, key: str, context: Context) -> None:
        """Keep a context under a key, in place of an earlier one.

        Raises:
            NotSerializable: The context's value cannot be stored.
            SinkError: The place cannot be written.
        """
        try:
            self.checkpoints.write(key, (context.storage, context.task_id, context.workflow_id, context.time))
        except NotSerializable as error:
            msg = str(error).replace("result[0]", "result", 1)
            raise NotSerializable(msg) from error.__cause__

    def get(self, key: str) -> Context:
        """Return the context of a key; one whose `storage` is None where there is none.

        Raises:
            CorruptCheckpoint: What is there is damaged, or is no context.
            SourceError: The place cannot be read.
        """
        kept = self.checkpoints.read(key)
        if kept is MISSING:
            return Context()
        if type(kept) is not tuple or len(kept) != 4:
            msg = f"checkpoint {key!r} at {self.checkpoints.shown} holds a {type(kept).__name__}, no context"
            raise CorruptCheckpoint(msg)
        storage, task_id, workflow_id, time = kept
        return Context(storage, task_id, workflow_id, time=time)

    def has(self, key: str) -> bool:
        """Return whether a key has a context, be its `storage` None."""
        return self.checkpoints.read(key) is not MISSING

    def key(self, task: Any) -> str:
        """Return the key of a task: `<workflow id>/steps/<name#occurrence>`."""
        return f"{join(task.workflow_id, 'steps')}/{task.checkpoint_key}"

    def list_keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a prefix, sorted."""
        return self.checkpoints.keys(prefix)

    def delete(self, key: str) -> bool:
        """Remove the context of a key; return whether there was one."""
        return self.checkpoints.delete(key)

    def clear(self, workflow_id: str) -> None:
        """Remove everything of a workflow but its epochs, which keep older processes from writing."""
        epochs = join(workflow_id, "epochs", "")
        for key in self.list_keys(join(workflow_id, "")):
            if not key.startswith(epochs):
                self.delete(key)


class StorageDefault(_Stored):
    """Results in the memory of this process; a new process finds nothing to resume."""

    def __init__(self) -> None:
        super().__init__(MemoryCheckpoints())


class StorageFile(_Stored):
    """Results in a folder.

    Args:
        *args: The path may come first, without its name.
        path: A folder or fsspec URL; the environment's RAFLOW_OUTPUT_PATH, or else `.output`.
    """

    def __init__(self, *args: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> None:
        given = path or (args[0] if args else None) or os.environ.get("RAFLOW_OUTPUT_PATH") or ".output"
        super().__init__(Checkpoints(given))


class StorageS3(_Stored):
    """Results in a bucket of S3; keys, region and endpoint come from the environment as for all AWS tools.

    Args:
        bucket: An existing bucket.
        prefix: What its objects' names begin with.
        region: The bucket's region, if not that of the environment.

    Raises:
        SourceError: The bucket does not exist, or may not be listed.
    """

    def __init__(self, *, bucket: str, prefix: str = "raflow/", region: str | None = None) -> None:
        options: dict[str, Any] = {"client_kwargs": {"region_name": region}} if region else {}
        super().__init__(Checkpoints(f"s3://{bucket}/{prefix}", options))
        self.checkpoints.check()


class StorageGCS(_Stored):
    """Results in a bucket of Google Cloud Storage, with the credentials of the environment.

    Args:
        bucket: An existing bucket.
        prefix: What its objects' names begin with.
        project: The project to work in, if not that of the credentials.

    Raises:
        SourceError: The bucket does not exist, or may not be listed.
    """

    def __init__(self, *, bucket: str, prefix: str = "raflow/", project: str | None = None) -> None:
        options: dict[str, Any] = {"project": project} if project else {}
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            options["token"] = "anon"  # an emulator knows no users, and asking for one takes long
        super().__init__(Checkpoints(f"gs://{bucket}/{prefix}", options))
        self.checkpoints.check()
