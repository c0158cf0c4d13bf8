from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from raflow.errors import TargetError
from raflow.loading import load

FLOW = "from raflow import Flow\napp = Flow('first')\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; what a test imports is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(path: str, text: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return path


def test_a_file_gives_its_only_flow_and_is_a_module_with_its_own_name(folder: Path) -> None:
    write("jobs/flights_x.py", FLOW + "same = app\nname = __name__\nif __name__ == '__main__':\n    1 / 0\n")
    target = load("jobs/flights_x.py")
    assert target.flow.flow_id == "first"
    assert (target.text, target.folder) == ("jobs/flights_x.py", folder / "jobs")
    assert target.module.name == "flights_x"
    assert sys.modules["flights_x"] is target.module
    assert sys.path[0] == str(folder / "jobs")


def test_a_file_imports_modules_that_lie_beside_it() -> None:
    write("jobs/beside_it.py", "FLOW_ID = 'shared'\n")
    write("jobs/uses_it.py", "from beside_it import FLOW_ID\nfrom raflow import Flow\napp = Flow(FLOW_ID)\n")
    assert load("jobs/uses_it.py").flow.flow_id == "shared"


@pytest.mark.parametrize(
    ("name", "flow_id"), [("app", "first"), ("other", "second"), ("Box.inner", "third"), ("make", "made")]
)
def test_a_name_chooses_a_flow_an_attribute_or_a_function_that_makes_one(name: str, flow_id: str) -> None:
    text = FLOW + "other = Flow('second')\nclass Box:\n    inner = Flow('third')\ndef make(): return Flow('made')\n"
    assert load(f"{write('several.py', text)}:{name}").flow.flow_id == flow_id


@pytest.mark.parametrize("target", ["pack.inner.flow_module", "pack.inner.flow_module:app"])
def test_a_module_is_found_from_the_working_folder(folder: Path, target: str) -> None:
    write("pack/__init__.py", "")
    write("pack/inner/__init__.py", "")
    write("pack/inner/flow_module.py", FLOW)
    loaded = load(target)
    assert loaded.flow.flow_id == "first"
    assert loaded.module.__name__ == "pack.inner.flow_module"
    assert loaded.folder == folder


def test_an_installed_module_needs_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("site/installed_flows.py", FLOW)
    monkeypatch.syspath_prepend(folder / "site")
    assert load("installed_flows").folder is None


def test_loading_twice_gives_the_same_module() -> None:
    write("once_only.py", FLOW)
    assert load("once_only.py").flow is load("once_only:app").flow


@pytest.mark.parametrize("name", ["json", "pytest", "rich", "__main__", "two.dots"])
def test_a_file_whose_name_is_taken_gets_another_module_name(name: str, folder: Path) -> None:
    taken = sys.modules.get(name)
    module = load(write(f"{name}.py", FLOW)).module
    assert module.__name__ != name
    assert sys.modules.get(name) is taken
    assert Path(module.__file__ or "") == folder / f"{name}.py"


def test_two_files_of_one_name_are_two_modules() -> None:
    write("a/twin_flow.py", FLOW)
    write("b/twin_flow.py", FLOW.replace("first", "second"))
    assert [load(f"{name}/twin_flow.py").flow.flow_id for name in "ab"] == ["first", "second"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing.py", "there is no file nothing.py"),
        ("jobs", "jobs is a folder"),
        ("flow.txt", "flow.txt is not a Python file"),
        ("no_such_module", "there is no module 'no_such_module'"),
        ("no_such.module:app", "there is no module 'no_such'"),
        ("good_flow.inner", "there is no module 'good_flow.inner'"),
        ("not a module", "'not a module' is neither a file nor a module"),
        ("", "the target '' is incomplete"),
        ("good_flow.py:", "the target 'good_flow.py:' is incomplete"),
        (":app", "the target ':app' is incomplete"),
        ("good_flow.py:ap", "good_flow has no 'ap'; did you mean 'app'?"),
        ("good_flow.py:zzzz", "good_flow has no 'zzzz'; its Flows are: app"),
        ("good_flow.py:app.zzzz", "Flow has no 'zzzz'"),
        ("good_flow.py:number", "number is of type int, not Flow; its Flows are: app"),
        ("good_flow.py:wants", "wants needs parameters .*'what'"),
        ("good_flow.py:gives", "gives is of type int, not Flow"),
        ("good_flow.py:fails", "line 6: RuntimeError: no luck"),
        ("empty_flow.py", "empty_flow.py has no Flow"),
        ("two_flows.py", "two_flows.py has several Flows: app, other; add :NAME"),
    ],
)
def test_a_target_that_leads_to_no_flow_says_why(target: str, message: str) -> None:
    Path("jobs").mkdir()
    write("flow.txt", "")
    factories = "def wants(what): ...\ndef gives(): return 7\ndef fails(): raise RuntimeError('no luck')\n"
    write("good_flow.py", FLOW + "number = 7\n" + factories)
    write("empty_flow.py", "x = 1\n")
    write("two_flows.py", FLOW + "other = Flow('second')\nsame = app\n")
    with pytest.raises(TargetError, match=message):
        load(target)


@pytest.mark.parametrize(
    ("text", "position", "kind"),
    [
        ("x = 1\ny = x / 0\n", "line 2: ZeroDivisionError: division by zero", ZeroDivisionError),
        ("x = 1\n\ny = (\n", "line 3: SyntaxError", SyntaxError),
        ("import no_such_module\n", "line 1: ModuleNotFoundError", ModuleNotFoundError),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3", SystemExit),
    ],
)
@pytest.mark.parametrize("target", ["broken_flow.py", "broken_flow"])
def test_an_error_in_the_users_file_keeps_its_traceback(
    folder: Path, target: str, text: str, position: str, kind: type[BaseException]
) -> None:
    write("broken_flow.py", text)
    path = list(sys.path)
    with pytest.raises(TargetError, match=f"broken_flow.py, {position}") as caught:
        load(target)
    cause = caught.value.__cause__
    assert isinstance(cause, kind)
    frames = traceback.extract_tb(cause.__traceback__)
    assert all(Path(frame.filename) == folder / "broken_flow.py" for frame in frames)
    assert "broken_flow" not in sys.modules
    assert sys.path == path
