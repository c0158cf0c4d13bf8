"""What the documentation shows works."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from raflow import Flow
from raflow.connectors.files import CsvFiles, ParquetFiles
from raflow.loading import load
from tests.http.hosts import serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "raflow").rglob("*.py")
    if re.search("^ *>>> ", path.read_text(), re.MULTILINE)
)
"""Those with examples in docstrings."""


class OwnOutput(doctest.OutputChecker):
    """Leaves out what workers of earlier tests have printed, which Ray may tell late."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return super().check_output(want, re.sub(r"^.*\(.* pid=\d+\).*\n", "", got, flags=re.MULTILINE), optionflags)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFLOW_ENGINE", "local")  # a Ray for a few lines costs seconds
    runner = doctest.DocTestRunner(checker=OwnOutput())
    for example in doctest.DocTestFinder().find(importlib.import_module(name)):
        runner.run(example)
    assert runner.tries > 0
    assert runner.failures == 0


def test_the_example_of_the_readme_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = CODE[0]
    (tmp_path / "raw").mkdir()
    trips = pa.table({"zone": [1, 2, 3], "fare": [10.0, 0.0, 4.0], "tip": [1.0, 1.0, None], "other": ["a", "b", "c"]})
    pq.write_table(trips, tmp_path / "raw" / "trips.parquet")
    (tmp_path / "trips.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    run = load("trips.py").flow.run(engine="local")
    assert ds.dataset(tmp_path / "clean").to_table().to_pylist() == [{"zone": 1, "rate": 0.1}]
    assert run.stats().stages[0].counts.skipped == 1


def test_the_stages_of_the_readme_are_two_pools() -> None:
    given = (
        "import pyarrow as pa\nfrom raflow import Flow\nfrom raflow.connectors.files import ParquetFiles\napp = Flow()"
    )
    names: dict[str, object] = {"Image": dict, "Pixels": dict}
    exec(f"{given}\n{CODE[1]}\nplan = app.plan()", names)
    assert [stage.name for stage in names["plan"].stages] == ["decode", "Label"]  # type: ignore[attr-defined]


def test_the_stream_of_the_readme_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAFLOW_ENGINE", "local")
    (tmp_path / "clean").mkdir()
    pq.write_table(pa.table({"zone": [1, 2, 1, 2], "rate": [0.5, 0.25, 0.25, 0.0]}), tmp_path / "clean" / "a.parquet")
    (tmp_path / "zones.csv").write_text("zone,name\n1,north\n2,south\n")
    app = Flow()
    exec(CODE[2], {"app": app, "pc": pc, "CsvFiles": CsvFiles, "ParquetFiles": ParquetFiles})
    app.run()
    assert ds.dataset(tmp_path / "report").to_table().to_pylist() == [
        {"zone": 2, "n": 1, "mean": 0.25, "name": "south"},
        {"zone": 1, "n": 2, "mean": 0.375, "name": "north"},
    ]


def test_the_steps_of_the_readme_run_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "squares.py").write_text(CODE[3])
    done = subprocess.run(
        [sys.executable, "squares.py"],
        cwd=tmp_path,
        env={**os.environ, "RAFLOW_ENGINE": "local", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "285\n"


def test_the_http_examples_of_the_readme_are_one_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text("\n".join(CODE[4:]))
    with serving(runpy.run_path("shop.py")["app"]) as client:
        assert client.post("/orders", json=[{"item": "tea", "count": 0}, {"item": "tea"}]).json()["records"] == 2
        assert client.get("/prices/tea", params={"count": 2}).json() == {"total": 5.0}
        assert client.get("/prices/gold").status_code == 404
        assert client.post("/prices/tea/wish", params={"price": 2}).status_code == 200
        assert client.get("/office/me").status_code == 401
        assert client.get("/office/me", headers={"X-API-Key": "her-key"}).json() == "ada"
    (written,), (wished,) = (tmp_path / "orders").glob("*.jsonl"), (tmp_path / "wishes").glob("*.jsonl")
    assert written.read_text() == '{"item":"tea","count":1}\n'
    assert wished.read_text() == '{"item":"tea","price":2.0}\n'


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"(?:^ {4}|`)make (\w+)", README, re.MULTILINE)
    assert {"demo", "test"} <= set(named)
    assert [target for target in named if f"\n{target}:" not in makefile] == []
