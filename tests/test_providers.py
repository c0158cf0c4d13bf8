"""Storages keep the results of tasks; a user's class with three methods is one too."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raflow.checkpoints.epochs import Epoch
from raflow.checkpoints.store import Checkpoints
from raflow.errors import CorruptCheckpoint, NotSerializable, RaflowError, SourceError
from raflow.providers import Storage, StorageDefault, StorageFile, StorageGCS, StorageS3, find
from raflow.testing import StoredTask, check_storage
from raflow.workflows.context import Context
from tests.stores import Bucket

Make = Callable[[], Any]


def on_s3(bucket: Bucket, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ENDPOINT_URL_S3", bucket.endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(params=["default", "file", "s3", "gcs"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    if request.param == "s3":
        on_s3(request.getfixturevalue("s3"), monkeypatch)
        return lambda: StorageS3(bucket=request.getfixturevalue("s3").name)
    if request.param == "gcs":
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gcs").endpoint)
        return lambda: StorageGCS(bucket=request.getfixturevalue("gcs").name)
    if request.param == "file":
        return lambda: StorageFile(path=tmp_path)
    storage = StorageDefault()
    return lambda: storage


def test_it_keeps_the_contract_of_storages(make: Make) -> None:
    check_storage(make)


@pytest.mark.parametrize(
    "value",
    [[1, 2, 3], (1, (2,)), {1, 2}, None, b"x", {1: "a"}, [], "", 0, [Context(1, "sub")]],
    ids=lambda value: repr(value)[:20],
)
def test_values_come_back_as_they_were(make: Make, value: Any) -> None:
    storage = make()
    context = Context(value, "t", "w")
    storage.post("k", context)
    storage.post("k", context)
    back = make().get("k")
    assert back == context
    assert type(back.storage) is type(value)
    assert back.time == context.time


def test_absent_and_none_can_be_told_apart(make: Make) -> None:
    storage = make()
    assert storage.get("k").storage is None
    assert not storage.has("k")
    assert find(storage, "k") is None
    storage.post("k", Context(None, "t"))
    assert storage.get("k").storage is None
    assert storage.has("k")
    assert find(storage, "k") == Context(None, "t")


def test_keys_are_listed_and_deleted(make: Make) -> None:
    storage = make()
    for key in ("a/steps/x#0", "a/steps/y#0", "ab/steps/x#0"):
        storage.post(key, Context(1))
    assert storage.list_keys("a/") == ["a/steps/x#0", "a/steps/y#0"]
    assert storage.delete("a/steps/x#0")
    assert not storage.delete("a/steps/x#0")
    assert storage.list_keys() == ["a/steps/y#0", "ab/steps/x#0"]


def test_clearing_a_workflow_keeps_the_others_and_its_epochs(make: Make) -> None:
    storage = make()
    older = Epoch.take(storage.checkpoints, "a")
    newer = Epoch.take(storage.checkpoints, "a")
    for workflow in ("a", "a/b", "ab"):
        storage.post(storage.key(StoredTask(workflow, "x#0")), Context(1))
    storage.clear("a")
    assert storage.list_keys() == ["a%2Fb/steps/x#0", "a/epochs/1", "a/epochs/2", "ab/steps/x#0"]
    newer.write(newer.key("x#0"), 1)
    with pytest.raises(RaflowError, match="resumed by another process"):
        older.write(older.key("x#0"), 1)


def test_what_cannot_be_stored_is_named_by_its_place(make: Make) -> None:
    with pytest.raises(NotSerializable, match=r"checkpoint 'k' at .*: result\['a'\]\[1\] is a generator"):
        make().post("k", Context({"a": [0, (n for n in "")]}))


def test_a_storage_shows_its_place_and_nothing_else(make: Make) -> None:
    storage = make()
    assert repr(storage) == f"{type(storage).__name__}({storage.checkpoints.shown!r})"
    assert pickle.loads(pickle.dumps(storage)).get("k") == Context()


def test_files_go_where_they_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert StorageFile().checkpoints.url == str(tmp_path / ".output")
    assert StorageFile(tmp_path / "x").checkpoints.url == str(tmp_path / "x")
    monkeypatch.setenv("RAFLOW_OUTPUT_PATH", str(tmp_path / "y"))
    assert StorageFile().checkpoints.url == str(tmp_path / "y")
    assert StorageFile(path="memory://z").checkpoints.url == "memory://z"


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    storage = StorageFile(path=tmp_path)
    storage.post("k", Context(1))
    (tmp_path / "k.checkpoint").write_bytes(b"[]")
    for call in (storage.get, storage.has, lambda key: find(storage, key)):
        with pytest.raises(CorruptCheckpoint, match="checkpoint 'k'"):
            call("k")


def test_a_checkpoint_that_is_no_context_is_an_error(tmp_path: Path) -> None:
    Checkpoints(tmp_path).write("k", 5)
    with pytest.raises(CorruptCheckpoint, match="checkpoint 'k' .* holds a int, no context"):
        StorageFile(path=tmp_path).get("k")


def test_keys_cannot_leave_the_folder(tmp_path: Path) -> None:
    storage = StorageFile(path=tmp_path / "in")
    storage.post("../evil", Context(1))
    storage.post(storage.key(StoredTask("../../evil", "../x#0")), Context(1))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_missing_bucket_is_said_at_once(s3: Bucket, gcs: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    on_s3(s3, monkeypatch)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.endpoint)
    with pytest.raises(SourceError, match="s3://no-such-bucket/raflow/ cannot be reached: .*does not exist"):
        StorageS3(bucket="no-such-bucket", region="us-east-1")
    with pytest.raises(SourceError, match="gs://no-such-bucket/x/ cannot be reached: .*does not exist"):
        StorageGCS(bucket="no-such-bucket", prefix="x/", project="test")


def test_objects_go_below_the_prefix(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    on_s3(s3, monkeypatch)
    StorageS3(bucket=s3.name, prefix="deep/er").post("k", Context(1))
    assert Checkpoints(f"{s3.url}/deep", s3.storage_options).keys() == ["er/k"]


class Three:
    """A storage of a user's own, no subclass; keeps contexts as they are."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def post(self, key: str, context: Context) -> None:
        self.kept[key] = pickle.dumps(context)

    def get(self, key: str) -> Context:
        return pickle.loads(self.kept[key]) if key in self.kept else Context()

    def key(self, task: Any) -> str:
        return f"{task.workflow_id}-{task.checkpoint_key}"


class Subclass(Three, Storage):
    """The same, as a subclass."""


@pytest.mark.parametrize("kind", [Three, Subclass])
def test_a_class_with_three_methods_is_a_storage(kind: type) -> None:
    storage = kind()
    check_storage(lambda: storage)


def test_a_subclass_must_have_all_three() -> None:
    class Two(Storage):
        def post(self, key: str, context: Context) -> None: ...

        def get(self, key: str) -> Context:
            return Context()

    with pytest.raises(TypeError, match="abstract method '?key"):
        Two()  # type: ignore[abstract]


class Appending(Three):
    """Posts beside what is there."""

    def post(self, key: str, context: Context) -> None:
        kept = self.get(key).storage
        super().post(key, Context([kept, context.storage] if kept else context.storage, "task", context.workflow_id))


def test_the_contract_finds_a_storage_that_appends() -> None:
    storage = Appending()
    with pytest.raises(AssertionError, match="was posted once more and"):
        check_storage(lambda: storage)
