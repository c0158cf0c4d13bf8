"""The layers of the package, read from its imports: what may know what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = [
    {"raflow"},  # the lazy names and the version
    {"errors", "units", "metrics", "extras", "letters", "logs"},
    {"credentials", "places", "foreign", "graph", "schema", "arrow_threads", "batch", "database"},
    {"sources", "sinks", "stores", "code", "decorated", "dependencies"},
    {"options", "convert"},
    {"operators"},
    {"nodes"},
    {"processors", "render", "schemas", "http", "arguments", "grouped"},
    {"flow", "stream", "plan"},
    {"pushdown"},
    {"checkpoints"},
    {"runtime", "connectors", "observe"},
    {"engines", "ends"},
    {"workflows", "providers"},
    {"serve", "control"},
    {"launch", "loading"},
    {"collecting", "frames"},
    {"drawing"},
    {"cli", "testing"},
    {"__main__"},
]
"""A module imports only from its own line or a line above."""

LATE = {
    ("flow", "launch"): "running needs every layer above the description",
    ("flow", "http"): "only a Flow that is served needs the packages for HTTP",
    ("flow", "http.application.building"): "only a Flow that is served needs the packages for HTTP",
    ("flow", "runtime.ledger"): "running needs every layer above the description",
    ("launch", "serve"): "only a Flow that is served needs the packages for HTTP",
    ("launch", "control"): "only a run that is controlled needs the packages for HTTP",
    ("flow", "plan"): "a plan is made of Flows",
    ("stream", "collecting"): "running needs every layer above the description",
    ("collecting", "engines.ray.dataset"): "only what is asked for: ray is heavy",
    ("frames", "engines.ray.dataset"): "only what is asked for: ray is heavy",
    ("graph", "render"): "only a graph that is looked at is drawn",
    ("plan.stages", "plan.picture"): "only a plan that is looked at is drawn",
    ("plan.stages", "render"): "only a plan that is looked at is drawn",
    ("render", "render.dot"): "only the format that is asked for",
    ("render", "render.mermaid"): "only the format that is asked for",
    ("render", "render.svg"): "only the format that is asked for",
    ("render", "render.text"): "only the format that is asked for",
    ("engines", "engines.local"): "only the engine that is asked for",
    ("engines", "engines.processes"): "only the engine that is asked for",
    ("engines", "engines.ray.replicas"): "only the engine that is asked for: ray is heavy",
    ("engines", "engines.ray.steps"): "only the engine that is asked for: ray is heavy",
    ("engines", "engines.threads"): "only the engine that is asked for",
    ("loading", "flow"): "its errors come sooner than Flow's imports",
    ("cli", "launch"): "--version and --help come at once",
    ("cli", "loading"): "--version and --help come at once",
    ("cli", "cli.reload"): "its module is the main one of the process that it starts",
    ("cli.outcome", "observe.summary"): "--version and --help come at once",
    ("cli.start", "loading"): "--version and --help come at once",
    ("cli.start", "providers"): "--version and --help come at once",
    ("cli.start", "workflows.chain"): "--version and --help come at once",
    ("cli.start", "workflows.chain.actions"): "--version and --help come at once",
    ("cli.start", "workflows.chain.importing"): "--version and --help come at once",
    ("cli", "drawing"): "--version and --help come at once",
    ("cli", "render"): "--version and --help come at once",
    ("workflows.spec.client", "loading"): "only an app that is a target needs it",
    ("workflows.spec.ray_jobs", "engines.ray.jobs"): "only a flow whose apps are jobs: ray is heavy",
}
"""The imports within functions, and why each is not at the top of its module."""


class Import(NamedTuple):
    by: str
    of: str
    late: bool


def modules() -> dict[str, Path]:
    """The modules by their names without `raflow.`."""
    found = {}
    for path in (ROOT / "raflow").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join(parts[1:]) or "raflow"] = path
    return found


@cache
def imports() -> frozenset[Import]:
    """Every import that happens at run time, of raflow's own modules and of foreign ones."""
    known = modules()
    return frozenset(one for name, path in known.items() for one in _imports_of(name, path, known))


def _imports_of(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text()), False)]
    while waiting:
        node, late = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (Import(name, _own(of, known), late) for of in _names(node, known))
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        waiting += [(child, late) for child in ast.iter_child_nodes(node)]


def _names(node: ast.Import | ast.ImportFrom, known: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "imports are absolute"
    assert node.module
    submodules = [f"{node.module}.{alias.name}" for alias in node.names]
    return [one if _own(one, known) in known else node.module for one in submodules]


def _own(dotted: str, known: dict[str, Path]) -> str:
    """The name without `raflow.`; a foreign module keeps its own, behind a colon if ours has the same."""
    short = dotted.removeprefix("raflow.")
    if dotted == "raflow" or short != dotted:
        return short
    return f":{dotted}" if dotted in known else dotted


def layer(name: str) -> int:
    top = name.partition(".")[0]
    return next(number for number, names in enumerate(LAYERS) if top in names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_every_module_has_its_place_in_the_layers() -> None:
    tops = {name.partition(".")[0] for name in modules()}
    assert tops == set().union(*LAYERS)


def test_contributing_draws_the_same_layers() -> None:
    drawn = re.search(r"keeps this\.\n\n((?: {4}.+\n)+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert drawn
    assert [set(re.split(" {3,}", line.strip())[0].split()) for line in drawn[1].splitlines()] == LAYERS[1:-1]


def test_modules_import_only_from_their_own_layer_or_below() -> None:
    known = modules()
    wrong = [one for one in imports() if not one.late and one.of in known and layer(one.of) > layer(one.by)]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if not one.late and one.of in graph and one.of != one.by:
            graph[one.by].add(one.of)
    TopologicalSorter(graph).prepare()


def test_late_imports_are_only_those_with_a_reason() -> None:
    known = modules()
    assert {(one.by, one.of) for one in imports() if one.late and one.of in known} == set(LATE)


def test_only_the_ray_engine_imports_ray() -> None:
    parts = ("actors", "bench", "cluster", "dataset", "jobs", "listener", "process", "replicas", "spare", "steps")
    assert {one.by for one in imports() if within(one.of, "ray")} <= {f"engines.ray.{part}" for part in parts}


@pytest.mark.parametrize("package", ["engines", "connectors", "launch", "ray"])
def test_the_runtime_knows_no_engine_and_no_connector(package: str) -> None:
    assert [one for one in imports() if within(one.by, "runtime") and within(one.of, package)] == []


def test_connectors_know_neither_the_runtime_nor_each_others_systems() -> None:
    def system(name: str) -> str:
        return ".".join(name.split(".")[:2])

    known = modules()
    used = [one for one in imports() if within(one.by, "connectors") and one.of in known]
    allowed = {
        "errors",
        "credentials",
        "places",
        "foreign",
        "schema",
        "arrow_threads",
        "batch",
        "sources",
        "sinks",
        "options",
        "convert",
        "units",
    }
    assert [one for one in used if system(one.of) != system(one.by) and one.of.partition(".")[0] not in allowed] == []


@pytest.mark.parametrize("tool", ["cli", "testing"])
def test_nobody_imports_the_tools(tool: str) -> None:
    assert [
        one for one in imports() if within(one.of, tool) and one.by != "__main__" and not within(one.by, tool)
    ] == []


def test_no_module_is_longer_than_500_lines() -> None:
    assert [name for name, path in modules().items() if len(path.read_text().splitlines()) > 500] == []
