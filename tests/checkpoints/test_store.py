"""Values under keys, in every kind of place."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.checkpoints.codec import encode
from raflow.checkpoints.keys import join
from raflow.checkpoints.memory import MemoryCheckpoints
from raflow.checkpoints.store import MISSING, Checkpoints
from raflow.errors import CorruptCheckpoint, MissingExtra, NotSerializable, SinkError, SourceError
from tests.stores import Bucket

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["folder", "dictionary", "memory", "s3", "gcs"])
def checkpoints(request: pytest.FixtureRequest, place: Callable[[str], Checkpoints]) -> Checkpoints:
    return place(request.param)


class Occupied(BaseHTTPRequestHandler):
    """A bucket in which another process creates every object first."""

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(412 if "ifGenerationMatch=0" in self.path else 500)

    def log_message(self, *_: Any) -> None: ...


def test_google_is_asked_to_create_only() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Occupied)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = {"token": "anon", "endpoint_url": f"http://127.0.0.1:{server.server_port}", "project": "test"}
    assert not Checkpoints("gs://bucket/runs", options).create("a", 1)
    server.shutdown()
    server.server_close()


def test_what_was_written_is_read(checkpoints: Checkpoints) -> None:
    assert checkpoints.read("a/b") is MISSING
    checkpoints.write("a/b", None)
    assert checkpoints.read("a/b") is None
    checkpoints.write("a/b", {"x": (1, {2})})
    assert checkpoints.read("a/b") == {"x": (1, {2})}


def test_a_key_may_go_on_below_another(checkpoints: Checkpoints) -> None:
    keys = ["a", "a/b", "a/b/c", "a.checkpoint/b", "a~2Fb", "ab"]
    for key in keys:
        checkpoints.write(key, key)
    assert [checkpoints.read(key) for key in keys] == keys
    assert checkpoints.keys() == sorted(keys)
    assert checkpoints.keys("a/") == ["a/b", "a/b/c"]
    assert checkpoints.keys("a/b") == ["a/b", "a/b/c"]
    assert checkpoints.keys("none/") == []


STRANGE = [
    "../evil",
    "../../etc/passwd",
    "/root",
    "",
    "a//b",
    "a/./b",
    "a/../b",
    ".hidden",
    "ünï ☃/x",
    "q?x=1&y#z%20*[a]",
    "a\nb",
    "\x00",
    "~",
    "~~",
    "\ud800",
    "A",
    "a",
    "x" * 5000,
    "x" * 5000 + "y",
    "long/" + "é" * 300 + "/end",
]


def test_keys_of_any_text_stay_apart(checkpoints: Checkpoints) -> None:
    for key in STRANGE:
        checkpoints.write(key, [key])
    assert [checkpoints.read(key) for key in STRANGE] == [[key] for key in STRANGE]
    assert checkpoints.keys() == sorted(STRANGE)


def test_no_key_leaves_its_folder(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "inside" / "runs")
    for key in STRANGE:
        checkpoints.write(key, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["runs"]


PARTS = st.lists(st.text(max_size=10), min_size=1, max_size=4)


@given(PARTS, PARTS)
@settings(max_examples=300, deadline=None)
def test_different_parts_make_different_keys_and_places(one: list[str], other: list[str]) -> None:
    store = Checkpoints("/anywhere")
    assert (join(*one) == join(*other)) == (one == other)
    assert (store._place(join(*one)) == store._place(join(*other))) == (one == other)
    assert store._key(store._place(join(*one))) == join(*one)


def test_deleting_says_whether_there_was_a_value(checkpoints: Checkpoints) -> None:
    checkpoints.write("a", 1)
    assert checkpoints.delete("a")
    assert not checkpoints.delete("a")
    assert checkpoints.read("a") is MISSING
    assert checkpoints.keys() == []


def test_creating_succeeds_once(checkpoints: Checkpoints) -> None:
    assert checkpoints.create("a", 1)
    assert not checkpoints.create("a", 2)
    assert checkpoints.read("a") == 1
    checkpoints.delete("a")
    assert checkpoints.create("a", 3)


@pytest.mark.parametrize("kind", ["folder", "dictionary", "memory", "s3"])  # Google's emulator ignores conditions
def test_of_many_threads_one_creates(kind: str, place: Callable[[str], Checkpoints]) -> None:
    checkpoints = place(kind)
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda n: checkpoints.create("a", n), range(8)))
    assert won.count(True) == 1
    assert checkpoints.read("a") == won.index(True)


def test_s3_itself_refuses_a_second_creation(s3: Bucket) -> None:
    checkpoints = Checkpoints(s3.url, s3.storage_options)
    checkpoints.write("a", 1)
    with pytest.raises((FileExistsError, OSError)):
        checkpoints._folder.fs.pipe_file(f"{s3.name}/a.checkpoint", b"x", mode="create")
    assert checkpoints.read("a") == 1


def test_a_value_that_is_changed_later_stays_as_it_was_stored(checkpoints: Checkpoints) -> None:
    value = {"a": [1]}
    checkpoints.write("k", value)
    value["a"].append(2)
    back = checkpoints.read("k")
    assert back == {"a": [1]}
    back["a"].append(3)
    assert checkpoints.read("k") == {"a": [1]}


def test_a_value_that_cannot_be_stored_leaves_the_old_one(checkpoints: Checkpoints) -> None:
    checkpoints.write("k", 1)
    with pytest.raises(NotSerializable, match=r"checkpoint 'k' at .* cannot be written: result\['g'\] is a generator"):
        checkpoints.write("k", {"g": (n for n in "")})
    assert checkpoints.read("k") == 1


def test_another_object_sees_the_same(checkpoints: Checkpoints) -> None:
    if isinstance(checkpoints, MemoryCheckpoints):
        assert MemoryCheckpoints().keys() == []
        return
    checkpoints.write("k", 1)
    other = pickle.loads(pickle.dumps(checkpoints))
    assert other.read("k") == 1
    other.write("k", 2)
    assert checkpoints.read("k") == 2


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write("flow/step", [1])
    file = tmp_path / "flow" / "step.checkpoint"
    whole = file.read_bytes()
    for data, message in [
        (whole[:-3], "cut short"),
        (b"", "empty"),
        (b"{}" * 50, "not written by raflow"),
        (encode(5), "no checkpoint but an encoded int"),
    ]:
        file.write_bytes(data)
        with pytest.raises(CorruptCheckpoint, match=f"checkpoint 'flow/step' at {tmp_path} .*{message}"):
            checkpoints.read("flow/step")
    file.write_bytes(whole)
    file.rename(tmp_path / "flow" / "other.checkpoint")
    with pytest.raises(CorruptCheckpoint, match="is the checkpoint of 'flow/step': a file was copied or renamed"):
        checkpoints.read("flow/other")


def test_files_of_others_are_not_listed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write("a", 1)
    (tmp_path / "README.txt").write_text("x")
    (tmp_path / ".0123.tmp").write_text("x")
    assert checkpoints.keys() == ["a"]


def test_secrets_are_in_no_repr_and_no_error(s3: Bucket) -> None:
    options = {**s3.storage_options, "secret": "hunter2"}
    checkpoints = Checkpoints("s3://user:hunter2@no-such-bucket-here/x", options)
    assert "hunter2" not in repr(checkpoints)
    with pytest.raises(SinkError) as caught:
        checkpoints.write("k", 1)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SourceError) as seen:
        checkpoints.check()
    assert "hunter2" not in str(seen.value)


def test_a_place_that_cannot_be_written_or_read_is_named(tmp_path: Path, s3: Bucket) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SinkError, match=f"checkpoint 'k' at {tmp_path}/file cannot be written"):
        Checkpoints(tmp_path / "file").write("k", 1)
    with pytest.raises(SinkError, match="the bucket 'no-such-bucket-here' does not exist"):
        Checkpoints("s3://no-such-bucket-here", s3.storage_options).write("k", 1)
    with pytest.raises((MissingExtra, SourceError, ValueError), match="nothing"):
        Checkpoints("nothing://x").read("k")


def test_a_write_that_is_killed_leaves_the_old_value_or_the_new(tmp_path: Path) -> None:
    code = f"""
from raflow.checkpoints.store import Checkpoints
store = Checkpoints({str(tmp_path)!r})
print("ready", flush=True)
while True:
    for n in (1, 2):
        store.write("k", [n] * 20000)
"""
    store = Checkpoints(tmp_path)
    store.write("k", [0])
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        seen: Any = None
        while seen in (None, [0]):
            seen = store.read("k")
        process.kill()
        process.wait()
        process.stdout.close()
        assert store.read("k") in ([1] * 20000, [2] * 20000)
        assert store.keys() == ["k"]
        store.write("k", [0])
