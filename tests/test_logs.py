"""What programs that raflow runs tell in their logs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raflow.logs import quiet_drivers
from tests.stores import Bucket

PROGRAM = """
import logging
from raflow import Flow, FlowOptions
from raflow.connectors.files import CsvFiles
keys = dict(aws_access_key_id="AKIATEST", aws_secret_access_key="SECRETVALUE", aws_session_token="TOKENVALUE")
app = Flow("talks", FlowOptions(log_level="DEBUG", num_replicas=1, **keys))
@app.consumer(source=CsvFiles("BUCKET/in/"), sink=CsvFiles("BUCKET/out/"))
def same(record: dict) -> dict:
    logging.getLogger("mine").debug("seen %s", record)
    return record
"""


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine, in a process of its own."""
    name: str = request.param
    return name


def test_debugging_tells_what_raflow_and_user_code_do_and_no_secret(s3: Bucket, tmp_path: Path, engine: str) -> None:
    import fsspec

    fsspec.filesystem("s3", **s3.storage_options).pipe_file(f"{s3.name}/in/a.csv", b"n\n1\n")
    (tmp_path / "program.py").write_text(PROGRAM.replace("BUCKET", s3.url))
    ended = subprocess.run(
        [sys.executable, "-m", "raflow", "run", "program.py", "--engine", engine],
        check=False, cwd=tmp_path, env={**os.environ, "AWS_ENDPOINT_URL": s3.endpoint},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert f"DEBUG engine {engine}" in ended.stdout
    assert "seen {'n': 1}" in ended.stdout
    assert [line for line in ended.stdout.splitlines() if "SECRETVALUE" in line or "TOKENVALUE" in line] == []


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger; levels are as they were after the test."""
    loggers = [logging.getLogger(name) for name in (None, "botocore", "s3fs")]
    levels = [logger.level for logger in loggers]
    yield loggers[0]
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def test_drivers_tell_no_more_than_warnings_and_no_more_than_the_root_logger(root: logging.Logger) -> None:
    for level, least in [("DEBUG", "WARNING"), ("ERROR", "ERROR"), ("INFO", "WARNING")]:
        root.setLevel(level)
        quiet_drivers()
        assert logging.getLogger("botocore.endpoint").getEffectiveLevel() == logging.getLevelName(least)


def test_a_level_of_a_driver_that_somebody_has_set_stays(root: logging.Logger) -> None:
    logging.getLogger("s3fs").setLevel("DEBUG")
    root.setLevel("INFO")
    quiet_drivers()
    assert logging.getLogger("s3fs").level == logging.DEBUG
