"""What `import raflow` gives: every name in its place, documented, and nothing heavy loaded."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import raflow

PUBLIC = [
    "raflow",
    "raflow.connectors.files",
    "raflow.connectors.memory",
    "raflow.dependencies.sql",
    "raflow.errors",
    "raflow.http.collector",
    "raflow.http.google",
    "raflow.http.service",
    "raflow.metrics",
    "raflow.options",
    "raflow.sinks",
    "raflow.sources",
    "raflow.stores",
    "raflow.stream",
    "raflow.testing",
]
"""The modules whose names users write."""


def public_names(module: Any) -> list[str]:
    """What `__all__` says, or else what the module itself defines."""
    named = getattr(module, "__all__", None)
    if named is not None:
        return [name for name in named if not name.startswith("__")]
    return [name for name, value in vars(module).items() if not name.startswith("_") and _defined(value, module)]


def methods(kind: type) -> list[str]:
    """The public methods and properties that the class itself defines; a field's default is none."""
    own = {name for name, value in vars(kind).items() if inspect.isroutine(value) or isinstance(value, property)}
    return [name for name in own - set(inspect.get_annotations(kind)) if not name.startswith("_")]


def _defined(value: Any, module: Any) -> bool:
    return (inspect.isclass(value) or inspect.isroutine(value)) and value.__module__ == module.__name__


def test_every_name_in_all_is_there() -> None:
    for name in raflow.__all__:
        assert getattr(raflow, name) is not None, name
    assert dir(raflow) == sorted(raflow.__all__)


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    source = Path(str(raflow.__file__)).read_text()
    block = source.partition("if TYPE_CHECKING:")[2].partition("_HOME")[0]
    typed = {name: home for home, name in re.findall(r"from (\S+) import \w+ as (\w+)", block)}
    assert typed == raflow._HOME
    assert set(raflow.__all__) == {*raflow._HOME, "__version__"}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Flaw'"):
        _ = raflow.Flaw


def test_a_star_import_gives_what_all_says() -> None:
    space: dict[str, Any] = {}
    exec("from raflow import *", space)
    assert set(raflow.__all__) <= set(space)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_object_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for public in public_names(module):
        value = getattr(module, public)
        assert inspect.getdoc(value), f"{name}.{public}"
        for member in methods(value) if inspect.isclass(value) else []:
            assert inspect.getdoc(getattr(value, member)), f"{name}.{public}.{member}"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import raflow", ["ray", "pandas", "pyarrow", "pydantic", "fsspec", "rich", "click", "numpy"]),
        ("from raflow import Flow, Service, collector, endpoint", ["fastapi", "starlette", "uvicorn", "anyio"]),
        ("from raflow import Flow, FlowOptions, consumer", ["ray", "pandas", "s3fs", "gcsfs", "rich", "click"]),
        ("from raflow.connectors.files import ParquetFiles, CsvFiles", ["ray", "pandas", "s3fs", "gcsfs"]),
        ("from raflow.checkpoints.store import Checkpoints; Checkpoints('x')", ["ray", "pandas", "pyarrow", "fsspec"]),
        ("import raflow.cli", ["ray", "pandas", "pyarrow", "pydantic", "fsspec"]),
        ("import raflow.launch", ["ray", "pandas", "s3fs", "gcsfs", "IPython"]),
    ],
)
def test_an_import_loads_only_what_it_needs(code: str, heavy: list[str]) -> None:
    program = f"{code}\nimport sys\nprint(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files("raflow").joinpath("py.typed").is_file()


def test_the_changelog_begins_with_this_version() -> None:
    text = (Path(__file__).parents[1] / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[?v?(\d[^\]\s]*)", text, re.MULTILINE)
    assert versions[0] == raflow.__version__
