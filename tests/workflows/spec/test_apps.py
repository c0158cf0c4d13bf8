# mypy: disable-error-code="misc"
from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raflow.errors import AppFailed, FlowFailed, InvalidOption, TargetError
from raflow.workflows.spec import (
    AppOption,
    AppResult,
    AppRunConfig,
    Configuration,
    FlowSpec,
    app,
    foreach,
    needs,
    step,
)
from raflow.workflows.spec.apps import AppRun
from raflow.workflows.spec.client import LocalClient

DEADLINE_S = 20
HERE = Path(__file__).parent / "app_targets.py"
LOCAL = Configuration(engine="local")
ECHO = [sys.executable, "-c", "import sys; print(sys.stdin.read())"]


def solved(app_id: Any, given: Any, client: Any = None, **said: Any) -> Any:
    class Solve(FlowSpec):
        @step
        def prepare(data: Any) -> Any:
            return data

        @app(app_id, **said)
        @needs(predecessors=[prepare])
        @step
        def solve() -> None: ...

    flow = Solve("solve", given, LOCAL, client)
    flow.run()
    return flow.get_result(flow.solve)


def test_an_app_can_be_a_function_a_flow_or_anything_with_run() -> None:
    assert solved(f"{HERE}:solve", 3) == {"solved": 3, "options": {}}
    assert solved("tests.workflows.spec.app_targets:solve", 3) == {"solved": 3, "options": {}}
    assert solved(f"{HERE}:inner", 4) == 8
    assert solved(f"{HERE}:ends", 4) == {"left": 4, "right": -4}
    assert solved(f"{HERE}:wrapped", 4) == ["ran", 4]


def test_an_app_can_be_any_kind_of_workflow() -> None:
    assert solved(f"{HERE}:chain", 4) == 9
    assert solved(f"{HERE}:local", 4) == 10
    assert solved(f"{HERE}:later", 4) == [4]
    assert "TypeError" in str(failure(f"{HERE}:chain", None))
    assert "name a function of the input that returns one" in str(failure(f"{HERE}:workflow"))


def test_an_app_can_be_the_class_of_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFLOW_ENGINE", "local")
    assert solved(f"{HERE}:Inner", 4, options={"add": 1}) == 10


def test_an_app_can_be_a_command_with_json_on_stdin_and_stdout() -> None:
    assert solved(ECHO, {"a": [1, None]}) == {"a": [1, None]}
    assert solved([sys.executable, "-c", ""], 1) is None
    script = "import json, sys; json.dump(sys.argv[1:], sys.stdout)"
    assert solved([sys.executable, "-c", script], 1, options={"limit": 3, "fast": True, "none": None}) == [
        "--limit",
        "3",
        "--fast",
        "True",
    ]


def test_a_command_gets_more_than_a_pipe_holds() -> None:
    assert solved(ECHO, "x" * 1_000_000) == "x" * 1_000_000


def test_options_are_strings_and_those_of_the_run_beat_those_of_the_app() -> None:
    config = AppRunConfig(5, [AppOption("limit", 2), AppOption("none", None)], name="mine")
    got = solved(f"{HERE}:solve", config, options={"limit": 1, "fast": True})
    assert got == {"solved": 5, "options": {"limit": "2", "fast": "True"}}
    assert AppRunConfig(1, {"a": 1, "b": None}).get_options() == {"a": "1"}


def test_each_item_of_a_foreach_can_be_a_configuration(engine: str) -> None:
    class Each(FlowSpec):
        @foreach
        @step
        def runs(data: list[int]) -> list[AppRunConfig]:
            return [AppRunConfig(item, {"n": item}) for item in data]

        @app(f"{HERE}:solve")
        @needs(predecessors=[runs])
        @step
        def solve() -> None: ...

    flow = Each("each", [1, 2], Configuration(engine=engine))
    flow.run()
    assert flow.get_result(flow.solve) == [{"solved": n, "options": {"n": str(n)}} for n in (1, 2)]
    ids = [node.run_id for node in flow.graph.find(flow.solve).nodes]
    assert len(set(ids)) == 2


def test_the_output_of_an_app_can_fan_out() -> None:
    class Fan(FlowSpec):
        @foreach
        @app(ECHO)
        @step
        def items() -> None: ...

        @app(f"{HERE}:wrapped")
        @needs(predecessors=[items])
        @step
        def each() -> None: ...

    flow = Fan("fan", [1, 2], LOCAL)
    flow.run()
    assert flow.get_result(flow.each) == [["ran", 1], ["ran", 2]]
    flow.input = 3
    with pytest.raises(FlowFailed, match="step items_0 has @foreach and must return something iterable, not int"):
        flow.run()


def test_a_command_that_was_given_up_before_it_began_ends_at_once() -> None:
    client = LocalClient()
    client.cancel("given-up")
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    done = client.run(AppRun(command, 1, {}, "given-up", "test"))
    assert done.error is not None
    assert "exit code -9" in done.error


def test_a_full_result_can_be_the_input_of_the_next_app() -> None:
    class Two(FlowSpec):
        @app(f"{HERE}:solve", full_result=True)
        @step
        def first() -> None: ...

        @app(f"{HERE}:solve")
        @needs(predecessors=[first])
        @step
        def second() -> None: ...

    flow = Two("two", 1, LOCAL)
    flow.run()
    first = flow.get_result(flow.first)
    assert isinstance(first, AppResult)
    assert (first.output, first.error) == ({"solved": 1, "options": {}}, None)
    assert first.run_id == flow.graph.find(flow.first).nodes[0].run_id
    assert flow.get_result(flow.second)["solved"] == first.output


def test_a_bypassed_app_is_not_run_and_needs_no_polling_options() -> None:
    assert solved("no.such.module:app", 1, bypass_result={"cost": 3}, polling_options=None) == {"cost": 3}
    full = solved("no.such.module:app", 1, bypass_result={"cost": 3}, full_result=True)
    assert (full.run_id, full.output) == ("bypassed-run", {"cost": 3})


def test_a_client_is_asked_with_all_that_was_said() -> None:
    asked = []

    class Recorder(LocalClient):
        def run(self, run: AppRun) -> AppResult:
            asked.append(run)
            return AppResult("recorded", run.run_id)

    said = {"instance_id": "one", "run_configuration": {"class": "6c"}, "polling_options": {"delay": 1}}
    config = AppRunConfig(1, name="named", description="why", run_configuration={"class": "12c"}, instance_id="two")
    client = Recorder()
    for given in (config, 1):
        assert solved("somewhere", given, client, **said) == "recorded"
    first, second = asked
    assert (first.app_id, first.input, first.name, first.description) == ("somewhere", 1, "named", "why")
    assert (first.run_configuration, first.instance_id) == ({"class": "12c"}, "two")
    assert (second.run_configuration, second.instance_id, second.polling_options) == (
        {"class": "6c"},
        "one",
        {"delay": 1},
    )
    assert second.name == "step solve_0 (somewhere)"


def test_live_logs_of_a_command_are_passed_on(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    script = [sys.executable, "-c", "import sys; print('halfway', file=sys.stderr); print(1)"]
    with caplog.at_level("INFO"):
        assert solved(script, 1, emit_live_logs=True) == 1
        assert "[solve_0] halfway" in caplog.text
        caplog.clear()
        assert solved(script, 1, full_result=True).logs == "halfway\n"
        assert "[solve_0] halfway" not in caplog.text
    assert capfd.readouterr().out == ""


# -- failures -----------------------------------------------------------------------------------------


def failure(app_id: Any, given: Any = 1, **said: Any) -> FlowFailed:
    with pytest.raises(FlowFailed, match=r"^Flow failed: Step solve_0 failed") as caught:
        solved(app_id, given, **said)
    return caught.value


def test_a_failed_command_fails_the_flow_with_what_it_said() -> None:
    error = failure([sys.executable, "-c", "raise SystemExit('solver crashed')"])
    assert isinstance(error.__cause__, AppFailed)
    assert "it ended with exit code 1: solver crashed" in str(error)


def test_a_failed_target_fails_the_flow_with_its_own_error() -> None:
    assert isinstance(failure(f"{HERE}:crash").__cause__, ValueError)


def test_a_failed_result_of_a_client_fails_the_flow() -> None:
    class Failing(LocalClient):
        def run(self, run: AppRun) -> AppResult:
            return AppResult(None, run.run_id, error="solver crashed")

    assert "solver crashed" in str(failure("somewhere", client=Failing()))


@pytest.mark.parametrize(
    ("app_id", "given", "kind", "said"),
    [
        ("no.such.module:app", 1, TargetError, "no module 'no'"),
        (f"{HERE}:wrong", 1, TargetError, "wrong"),
        (f"{HERE}", 1, TargetError, "has no name"),
        (f"{HERE}:number", 1, InvalidOption, "of type int"),
        (["/no/such/command"], 1, FileNotFoundError, "/no/such/command"),
        (ECHO, {1, 2}, TypeError, "set is not JSON serializable"),
        ([sys.executable, "-c", "print('hello')"], 1, AppFailed, "its stdout is not JSON"),
    ],
)
def test_what_cannot_be_run_is_told(app_id: Any, given: Any, kind: type[BaseException], said: str) -> None:
    error = failure(app_id, given)
    assert isinstance(error.__cause__, kind)
    assert said in str(error)


def test_a_command_ends_when_another_step_fails(tmp_path: Path) -> None:
    script = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    class Both(FlowSpec):
        @app([sys.executable, "-c", script])
        @step
        def command() -> None: ...

        @step
        def fails() -> None:
            wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
            raise ValueError("at once")

    with pytest.raises(FlowFailed, match="fails_0"):
        Both("both", 1, LOCAL).run()
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    script = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    class Slow(FlowSpec):
        @app([sys.executable, "-c", script])
        @step(timeout=1)
        def command() -> None: ...

    with pytest.raises(FlowFailed, match="command_0 failed: StepTimedOut"):
        Slow("slow", 1, LOCAL).run()
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def wait_for(happens: Callable[[], bool]) -> None:
    pause, left = threading.Event(), DEADLINE_S * 100
    while not happens():
        left -= 1
        assert left
        pause.wait(0.01)


def test_no_network_or_key_is_needed_to_make_a_flow(tmp_path: Path) -> None:
    program = "from tests.workflows.spec.app_targets import inner; inner.input = 2; inner.run(); print('ran')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": "."}, check=True
    )
    assert done.stdout == "ran\n"
