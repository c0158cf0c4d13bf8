"""How places are told apart, and how a file is written there."""

from __future__ import annotations

import pickle
import uuid
from pathlib import Path

import pytest

from raflow.places import Location
from tests.stores import Bucket


@pytest.mark.parametrize(
    ("url", "is_local", "is_on_disk", "bucket"),
    [
        ("/tmp/x", True, True, ""),
        ("x", True, True, ""),
        ("file:///tmp/x", True, True, ""),
        ("zip://a.csv::/tmp/x.zip", True, False, ""),
        ("memory://x", False, False, ""),
        ("https://host/x", False, False, ""),
        ("s3://b", False, False, "b"),
        ("gs://b/x/y", False, False, "b"),
        ("simplecache::s3://b/x", False, False, ""),
    ],
)
def test_a_url_says_what_kind_of_place_it_is(url: str, is_local: bool, is_on_disk: bool, bucket: str) -> None:
    place = Location.of(url)
    assert (place.is_local, place.is_on_disk, place.bucket) == (is_local, is_on_disk, bucket)


@pytest.fixture(params=["folder", "memory", "s3", "gcs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param in ("s3", "gcs"):
        bucket: Bucket = request.getfixturevalue(request.param)
        return Location.of(bucket.url, bucket.storage_options)
    return Location.of(tmp_path if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


def test_what_is_written_is_there_also_for_a_copy_of_the_place(place: Location) -> None:
    for data in (b"one", b"two"):
        place.write(f"{place.path}/a/b", data)
        with pickle.loads(pickle.dumps(place)).open(f"{place.path}/a/b") as file:
            assert file.read() == data


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_only_a_bucket_that_is_not_there_is_missing(kind: str, request: pytest.FixtureRequest) -> None:
    bucket: Bucket = request.getfixturevalue(kind)
    Location.of(f"{bucket.url}/no/such/file", bucket.storage_options).require_bucket()
    with pytest.raises(FileNotFoundError, match="the bucket does not exist"):
        Location.of(f"{bucket.protocol}://no-such-bucket/x", bucket.storage_options).require_bucket()


def test_a_file_on_disk_may_have_to_be_new(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    place.write(f"{tmp_path}/a", b"one", is_new=True)
    with pytest.raises(FileExistsError):
        place.write(f"{tmp_path}/a", b"two", is_new=True)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        Location.of(tmp_path).write(f"{tmp_path}/a", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_may_be_made_for_its_owner_only(tmp_path: Path) -> None:
    Location.of(tmp_path).write(f"{tmp_path}/a/b", b"one", folder_mode=0o700)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
