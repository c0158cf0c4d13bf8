"""Errors of others, told as ours."""

from __future__ import annotations

import errno
import lzma
import zipfile
import zlib

import pyarrow as pa
import pytest
from pydantic import SecretStr

from raflow.credentials import Credentials
from raflow.errors import SinkError
from raflow.foreign import foreign_errors
from raflow.places import Location

BUCKET = Location.of("s3://raw/x")


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (PermissionError(13, "Access Denied"), "writing x: no permission"),
        (OSError("Forbidden: https://storage/b/raw"), "writing x: no permission"),
        (OSError(errno.ENOSPC, "No space left on device"), "writing x: no space left on the disk"),
        (FileNotFoundError("The specified bucket does not exist"), "writing x: the bucket 'raw' does not exist"),
        (FileNotFoundError("raw/x"), "writing x: it does not exist"),
        (OSError("https://me:secret@host/?token=secret is down"), r"https://\*\*\*@host/\?token=\*\*\*"),
        (pa.ArrowInvalid("not a file"), "writing x: not a file"),
        (zlib.error("bad stream"), "writing x: bad stream"),
        (lzma.LZMAError("bad stream"), "writing x: bad stream"),
        (zipfile.BadZipFile("bad stream"), "writing x: bad stream"),
        (EOFError(), "writing x: EOFError"),
    ],
)
def test_foreign_errors_are_told_in_plain_words_without_secrets(raised: Exception, message: str) -> None:
    with pytest.raises(SinkError, match=message) as caught, foreign_errors("writing x", SinkError, BUCKET):
        raise raised
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is raised


def test_errors_of_our_own_code_stay_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError), foreign_errors("writing x", SinkError, BUCKET):
        _ = 1 / 0


@pytest.mark.parametrize(
    "place",
    [
        Location("s3://raw/x", {"key": "AKIA", "secret": "hunter2"}),
        Location("s3://raw/x", {"client_kwargs": {"aws_secret_access_key": "hunter2"}}),
        Location("s3://raw/x", credentials=Credentials("AKIA", SecretStr("hunter2"))),
        Location("s3://hunter2@raw/x"),
    ],
)
def test_a_secret_that_a_driver_repeats_is_not_told(place: Location) -> None:
    with pytest.raises(SinkError, match=r"writing x: \*\*\*") as caught, foreign_errors("writing x", SinkError, place):
        raise OSError("hunter2@ is no key")
    assert "hunter2" not in str(caught.value)


def test_a_way_to_log_in_is_no_secret() -> None:
    place = Location("gs://raw/x", {"token": "anon"})
    with pytest.raises(SinkError, match="anonymous"), foreign_errors("writing x", SinkError, place):
        raise PermissionError("an anonymous caller may not do this")
