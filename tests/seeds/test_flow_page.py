"""Programs written from the page about Flows, consumers and FlowOptions run, only `raflow` being new in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SEEDS = Path(__file__).parent


def program(name: str, folder: Path, *words: str) -> str:
    """Run one as its reader would, and return what it printed."""
    command = [sys.executable, *words, str(SEEDS / name)]
    env = {**os.environ, "RAFLOW_ENGINE": "local"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_decorated_consumers_run(tmp_path: Path) -> None:
    printed = program("flow_decorators.py", tmp_path)
    assert sorted(pq.read_table(tmp_path / "large")["customer"].to_pylist()) == ["Ada", "Barbara"]
    greetings = {row["text"] for row in rows(tmp_path / "greetings")}
    assert greetings == {f"Thank you, {name}!" for name in ("Ada", "Grace", "Linus", "Guido", "Barbara")}
    assert "succeeded" in printed


def test_added_consumers_of_another_file_run_from_the_command_line(tmp_path: Path) -> None:
    program("flow_add_methods.py", tmp_path, "-m", "raflow", "run")
    assert sorted(row["cents"] for row in rows(tmp_path / "amounts")) == [4225, 8000, 12050, 30000]
    letters = {letter for name in ("Ada", "Grace", "Linus", "Guido", "Barbara") for letter in name.lower()}
    assert sorted(row["letter"] for row in rows(tmp_path / "letters")) == sorted(letters)


def test_the_options_of_a_flow_reach_its_processors_and_hide_their_secrets(tmp_path: Path) -> None:
    printed = program("flow_options.py", tmp_path)
    assert sorted(row["cents"] for row in rows(tmp_path / "amounts")) == [4225, 8000, 12050, 30000]
    assert "DEBUG engine local" in printed
    assert not any(secret in printed for secret in ("AKIAEXAMPLE", "example-secret", "example-token", "example-key"))
