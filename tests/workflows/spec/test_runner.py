# mypy: disable-error-code="misc,attr-defined"
"""How steps run: inputs, order, repetition, conditions, failures. The same on both engines where possible."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raflow.errors import FlowFailed, InvalidOption, NotSerializable, StepExited, StepTimedOut
from raflow.workflows.spec import (
    STATUS_CANCELLED,
    STATUS_FAILED,
    STATUS_PENDING,
    STATUS_RUNNING,
    STATUS_SKIPPED,
    STATUS_SUCCEEDED,
    STATUS_TIMED_OUT,
    Configuration,
    FlowSpec,
    foreach,
    join,
    needs,
    optional,
    repeat,
    step,
)

DEADLINE_S = 20


def ran(kind: Any, given: Any, engine: str, **conf: Any) -> Any:
    flow = kind("test", given, Configuration(engine=engine, **conf))
    flow.run()
    return flow


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def statuses(flow: Any, function: Any) -> list[str]:
    return [node.status for node in flow.graph.find(function).nodes]


# -- arguments ----------------------------------------------------------------------------------------


class Arguments(FlowSpec):
    factor = 3

    @step
    def plain(data: Any) -> Any:
        return data

    @step
    def method(self, data: Any) -> Any:
        return self.scaled(data["n"]), self.name, self.input

    @step
    def nothing() -> str:
        return "nothing"

    @step
    def only_self(self) -> str:
        return f"{type(self).__name__} {self.input['n']}"

    @step
    async def later(data: Any) -> Any:
        await asyncio.sleep(0)
        return data["n"] + 1

    @needs(predecessors=[nothing, plain, later])
    @step
    def everything(*results: Any) -> list[Any]:
        return list(results)

    @needs(predecessors=[later, nothing])
    @step
    def in_order(number: int, text: str, extra: str = "extra") -> str:
        return f"{number} {text} {extra}"

    def scaled(self, number: int) -> int:
        return number * self.factor


def test_functions_get_what_they_can_take(engine: str) -> None:
    flow = ran(Arguments, {"n": 2}, engine)
    assert flow.get_result(flow.plain) == {"n": 2}
    assert flow.get_result(flow.method) == (6, "test", {"n": 2})
    assert flow.get_result(flow.nothing) == "nothing"
    assert flow.get_result(flow.only_self) == "Arguments 2"
    assert flow.get_result(flow.later) == 3
    assert flow.get_result(flow.everything) == ["nothing", {"n": 2}, 3]
    assert flow.get_result(Arguments.in_order) == "3 nothing extra"


class First(FlowSpec):
    @step
    def only(data: Any) -> Any:
        return data


@pytest.mark.parametrize("given", [[1, 2, 3], (1, 2), {}, None, "text"])
def test_the_input_is_one_argument_whatever_it_is(given: Any) -> None:
    flow = ran(First, given, "local")
    assert flow.get_result(flow.only) == given


def test_a_large_input_arrives(engine: str) -> None:
    flow = ran(First, b"x" * 300_000, engine)
    assert flow.get_result(flow.only) == b"x" * 300_000


class Own(FlowSpec):
    def __init__(self, name: str, given: Any, conf: Configuration, factor: int = 4) -> None:
        super().__init__(name, given, conf)
        self.factor = factor

    @step
    def scale(self, data: int) -> int:
        self.factor += 1
        return data * self.factor

    @needs(predecessors=[scale])
    @step
    def again(self, data: int) -> int:
        return data * self.factor

    @needs(predecessors=[again])
    @step
    def parents(self, data: int) -> tuple[int, bool, int]:
        return data, isinstance(self, Own), super().__sizeof__()


def test_steps_see_what_was_set_on_self_and_change_only_their_copy(engine: str) -> None:
    flow = ran(Own, 1, engine)
    assert flow.get_result(flow.again) == 5 * 4
    assert flow.get_result(flow.parents)[:2] == (20, True)
    assert flow.factor == 4


def test_a_step_that_wants_the_graph_of_self_is_told_that_it_is_not_there() -> None:
    class Curious(FlowSpec):
        @step
        def look(self) -> Any:
            return self.graph.steps

    with pytest.raises(FlowFailed, match=r"Step look_0 failed: AttributeError: self.graph is not there within a step"):
        ran(Curious, 1, "local")


def test_an_attribute_of_self_that_cannot_travel_is_an_error_before_anything_starts() -> None:
    flow = Own("test", 1, Configuration(engine="local"))
    flow.lock = threading.Lock()
    with pytest.raises(NotSerializable, match="attributes of flow test"):
        flow.run()


def test_the_class_of_a_flow_stays_as_it_is_when_steps_use_self() -> None:
    class Local(FlowSpec):
        seen: list[int] = []  # noqa: RUF012

        @step
        def look(self, data: int) -> int:
            self.seen.append(data)
            return data

    before = dict(vars(Local))
    ran(Local, 1, "local")
    assert dict(vars(Local)) == before


def test_results_and_input_are_copies_for_each_reader() -> None:
    class Spoil(FlowSpec):
        @step
        def read(data: list[int]) -> list[int]:
            data.append(99)
            return [1]

        @needs(predecessors=[read])
        @step
        def spoil(numbers: list[int]) -> None:
            numbers.clear()

        @needs(predecessors=[read, spoil])
        @step
        def use(numbers: list[int], spoilt: None) -> list[int]:
            return numbers

    flow = ran(Spoil, [0], "local")
    flow.get_result(flow.read).clear()
    assert (flow.input, flow.get_result(flow.read), flow.get_result(flow.use)) == ([0], [1], [1])


# -- many ---------------------------------------------------------------------------------------------


class Many(FlowSpec):
    @foreach()
    @step
    def numbers(data: int) -> Any:
        return range(1, data + 1)

    @foreach
    @step
    def letters(data: int) -> Iterator[str]:
        yield from "abc"[:data]

    @step
    def plain(data: int) -> str:
        return "plain"

    @needs(predecessors=[numbers, letters])
    @step
    def product(number: int, letter: str) -> str:
        return f"{number}{letter}"

    @needs(predecessors=[numbers, plain])
    @step
    def broadcast(number: int, text: str) -> str:
        return f"{text}{number}"

    @join
    @needs(predecessors=[broadcast])
    @step
    def joined(rows: list[list[str]]) -> list[list[str]]:
        return rows

    @join
    @needs(predecessors=[numbers, letters])
    @step
    def joined_product(rows: Any) -> Any:
        return rows

    @join
    @needs(predecessors=[plain, plain])
    @step
    def joined_plain(rows: Any) -> Any:
        return rows


def test_fan_outs_combine_row_by_row_and_joins_get_nested_lists(engine: str) -> None:
    flow = ran(Many, 3, engine)
    assert list(flow.get_result(flow.numbers)) == [1, 2, 3]
    assert flow.get_result(flow.product) == ["1a", "1b", "1c", "2a", "2b", "2c", "3a", "3b", "3c"]
    assert flow.get_result(flow.broadcast) == ["plain1", "plain2", "plain3"]
    assert flow.get_result(flow.joined) == [["plain1"], ["plain2"], ["plain3"]]
    assert flow.get_result(flow.joined_product) == [[n, x] for n in (1, 2, 3) for x in "abc"]
    assert flow.get_result(flow.joined_plain) == [["plain", "plain"]]


def test_one_item_gives_a_list_too_and_no_item_an_empty_one(engine: str) -> None:
    flow = ran(Many, 1, engine)
    assert flow.get_result(flow.product) == ["1a"]
    assert flow.get_result(flow.joined) == [["plain1"]]
    flow = ran(Many, 0, engine)
    assert flow.get_result(flow.numbers) == []
    assert flow.get_result(flow.product) == []
    assert flow.get_result(flow.broadcast) == []
    assert flow.get_result(flow.joined) == []
    assert flow.get_result(flow.joined_plain) == [["plain", "plain"]]


class Nested(FlowSpec):
    @foreach
    @step
    def outer(data: list[int]) -> list[int]:
        return data

    @foreach
    @needs(predecessors=[outer])
    @step
    async def inner(number: int) -> AsyncIterator[str]:
        for letter in "ab"[:number]:
            yield f"{number}{letter}"

    @needs(predecessors=[inner])
    @step
    def leaf(text: str) -> str:
        return text.upper()

    @foreach
    @repeat(2)
    @step
    def twice(data: list[int]) -> list[int]:
        return data

    @needs(predecessors=[twice])
    @step
    def each(number: int) -> int:
        return number


def test_a_foreach_step_with_several_nodes_hands_on_all_their_items_in_order(engine: str) -> None:
    flow = ran(Nested, [2, 0, 1], engine)
    assert flow.get_result(flow.inner) == [["2a", "2b"], [], ["1a"]]
    assert flow.get_result(flow.leaf) == ["2A", "2B", "1A"]
    assert flow.get_result(flow.twice) == [[2, 0, 1], [2, 0, 1]]
    assert flow.get_result(flow.each) == [2, 0, 1, 2, 0, 1]


class Repeated(FlowSpec):
    @foreach
    @step
    def items(data: Any) -> Any:
        return data

    @needs(predecessors=[items])
    @repeat(repetitions=2)
    @step
    def again(item: int) -> int:
        return item * 10

    @needs(predecessors=[again])
    @step
    def after(results: list[int]) -> list[int]:
        return results

    @join
    @needs(predecessors=[again])
    @step
    def joined(rows: Any) -> Any:
        return rows

    @repeat(0)
    @step
    def never(data: Any) -> Any:
        return data

    @needs(predecessors=[never])
    @step
    def after_never(results: list[Any]) -> list[Any]:
        return results


def test_a_repeated_step_hands_on_one_list_of_all_its_results(engine: str) -> None:
    flow = ran(Repeated, [1, 2], engine)
    assert flow.get_result(flow.again) == [10, 20, 10, 20]
    assert flow.get_result(flow.after) == [10, 20, 10, 20]
    assert flow.get_result(flow.joined) == [[[10, 20, 10, 20]]]
    assert flow.get_result(flow.never) == []
    assert flow.get_result(flow.after_never) == []


def test_nothing_is_lost_with_one_thread_and_a_slow_last_item() -> None:
    class Slow(FlowSpec):
        @foreach
        @step
        def items(data: list[float]) -> list[float]:
            return data

        @needs(predecessors=[items])
        @step
        def work(seconds: float) -> float:
            time.sleep(seconds)
            return seconds

        @join
        @needs(predecessors=[work])
        @step
        def gather(rows: list[list[float]]) -> list[float]:
            return [seconds for (seconds,) in rows]

        @repeat(2)
        @step
        def twice() -> str:
            time.sleep(0.005)
            return "ok"

    given = [0.0] * 29 + [0.06]
    for threads in (1, 0):
        flow = Slow("slow", given, Configuration(threads, engine="local"))
        for _ in range(20):
            flow.run()
            assert flow.get_result(flow.gather) == given
            assert flow.get_result(flow.twice) == ["ok", "ok"]


def test_thread_count_is_how_many_nodes_run_at_once() -> None:
    lock, running, most = threading.Lock(), [0], [0]
    met = threading.Event()

    class Counted(FlowSpec):
        @repeat(12)
        @step
        def work() -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
                if running[0] == 3:
                    met.set()
            met.wait(DEADLINE_S)
            with lock:
                running[0] -= 1

    ran(Counted, 1, "local", thread_count=3)
    assert most == [3]


def test_more_inputs_than_allowed_are_an_error_before_any_starts() -> None:
    started = []

    class Wide(FlowSpec):
        @foreach
        @step
        def items(data: int) -> Any:
            return range(data)

        @needs(predecessors=[items])
        @step
        def work(item: int) -> None:
            started.append(item)

        @join
        @needs(predecessors=[items])
        @step
        def gather(rows: Any) -> int:
            return len(rows)

    with pytest.raises(
        FlowFailed, match=r"Step work_0 .* work would get 51 inputs, and max_step_inputs is 50"
    ) as caught:
        ran(Wide, 51, "local")
    assert isinstance(caught.value.__cause__, InvalidOption)
    assert started == []
    for most in (0, None, 51):
        flow = ran(Wide, 51, "local", max_step_inputs=most)
        assert flow.get_result(flow.gather) == 51


def test_repetitions_count_as_inputs() -> None:
    class Often(FlowSpec):
        @repeat(51)
        @step
        def work() -> None: ...

    with pytest.raises(FlowFailed, match="work would get 51 inputs"):
        ran(Often, 1, "local")


# -- conditions ---------------------------------------------------------------------------------------


class Choice(FlowSpec):
    @step
    def read(data: int) -> int:
        return data

    @optional(condition=lambda step, number: number > 0)
    @needs(predecessors=[read])
    @step
    def positive(number: int) -> str:
        return "positive"

    @optional(condition=lambda step: step.get_id() != "never")
    @foreach
    @step
    def never(data: int) -> list[int]:
        return [data]

    @needs(predecessors=[never])
    @step
    def after_never(result: Any) -> Any:
        return result

    @optional(condition=lambda step, *results: results == (3,))
    @step
    def three(data: int) -> str:
        return "three"

    @needs(predecessors=[positive, three])
    @step
    def end(sign: str | None, three: str | None) -> list[str | None]:
        return [sign, three]


@pytest.mark.parametrize(("number", "end"), [(3, ["positive", "three"]), (1, ["positive", None]), (-1, [None, None])])
def test_conditions_decide_by_results_and_skipped_steps_give_none(engine: str, number: int, end: Any) -> None:
    flow = ran(Choice, number, engine)
    assert flow.get_result(flow.end) == end
    assert statuses(flow, flow.positive) == [STATUS_SUCCEEDED if number > 0 else STATUS_SKIPPED]


def test_a_skipped_step_is_done_and_one_after_a_skipped_foreach_gets_none() -> None:
    flow = ran(Choice, 1, "local")
    never = flow.graph.find(flow.never)
    assert (never.done, never.is_skipped, flow.get_result(flow.never)) == (True, True, None)
    assert [node.result for node in never.nodes] == [None]
    assert flow.get_result(flow.after_never) == [None]


def test_a_condition_over_a_fan_out_gets_the_list_of_results() -> None:
    class Sum(FlowSpec):
        @foreach
        @step
        def items(data: list[int]) -> list[int]:
            return data

        @needs(predecessors=[items])
        @step
        def double(item: int) -> int:
            return item * 2

        @optional(condition=lambda step, doubled: sum(doubled) > 10)
        @needs(predecessors=[double])
        @step
        def large(item: int) -> int:
            return item

    flow = ran(Sum, [1, 2, 3], "local")
    assert flow.get_result(flow.large) == [2, 4, 6]
    flow = ran(Sum, [1, 2], "local")
    assert flow.get_result(flow.large) is None


def test_a_condition_may_be_async() -> None:
    async def condition(step: Any, data: int) -> bool:
        return data > 1

    class Async(FlowSpec):
        @optional(condition)
        @step
        def maybe(data: int) -> int:
            return data

    assert [ran(Async, n, "local").get_result(Async.maybe) for n in (1, 2)] == [None, 2]


@pytest.mark.parametrize("stop", [ZeroDivisionError("no"), SystemExit(3)])
def test_an_error_in_a_condition_fails_the_flow_with_the_step(stop: BaseException) -> None:
    def condition(step: Any) -> bool:
        raise stop

    class Bad(FlowSpec):
        @optional(condition)
        @step
        def maybe() -> None: ...

    flow = Bad("bad", 1, Configuration(engine="local"))
    with pytest.raises(FlowFailed, match=rf"^Flow failed: Step maybe_0 failed: {type(stop).__name__}: ") as caught:
        flow.run()
    assert caught.value.__cause__ is stop
    assert statuses(flow, flow.maybe) == [STATUS_FAILED]


# -- failures -----------------------------------------------------------------------------------------


class Failing(FlowSpec):
    @foreach
    @step
    def items(data: list[int]) -> list[int]:
        return data

    @needs(predecessors=[items])
    @step
    def double(item: int) -> int:
        if item == 13:
            raise ValueError(f"bad item {item}")
        return item * 2

    @join
    @needs(predecessors=[double])
    @step
    def gather(rows: Any) -> Any:
        return rows


def test_the_error_of_a_step_names_it_and_is_the_cause(engine: str) -> None:
    flow = Failing("failing", [1, 2, 3, 13], Configuration(engine=engine))
    with pytest.raises(RuntimeError, match=r"^Flow failed: Step double_3 failed: ValueError: bad item 13") as caught:
        flow.run()
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert "in double" in str(cause.__cause__)
    node = flow.graph.find(flow.double).nodes[3]
    assert (node.status, node.error, node.done, node.result) == (STATUS_FAILED, "ValueError: bad item 13", True, None)
    assert (flow.runner.fail, flow.runner.fail_reason) == (True, "Step double_3 failed: ValueError: bad item 13")
    assert flow.get_result(flow.items) == [1, 2, 3, 13]
    assert flow.get_result(flow.double) is None
    assert flow.get_result(flow.gather) is None
    assert flow.graph.find(flow.gather).nodes == []


def test_after_a_failure_nothing_new_starts() -> None:
    started = []

    class Six(FlowSpec):
        @foreach
        @step
        def items() -> list[int]:
            return list(range(6))

        @needs(predecessors=[items])
        @step
        def work(item: int) -> None:
            started.append(item)
            raise ValueError("first")

    with pytest.raises(FlowFailed, match="work_0"):
        ran(Six, 1, "local", thread_count=1)
    assert started == [0]


def test_after_a_failure_running_steps_are_cancelled_and_nothing_changes_any_more() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    class Held(FlowSpec):
        @step
        def held() -> str:
            begun.set()
            go_on.wait(DEADLINE_S)
            ended.set()
            return "late"

        @step
        def fails() -> None:
            begun.wait(DEADLINE_S)
            raise ValueError("at once")

    flow = Held("held", 1, Configuration(engine="local"))
    with pytest.raises(FlowFailed, match="fails_0"):
        flow.run()
    assert statuses(flow, flow.held) == [STATUS_CANCELLED]
    assert flow.graph.find(flow.held).nodes[0].cancel
    go_on.set()
    assert ended.wait(DEADLINE_S)
    assert statuses(flow, flow.held) == [STATUS_CANCELLED]
    assert flow.get_result(flow.held) is None


def test_all_errors_that_were_heard_of_are_told() -> None:
    asked = threading.Event()

    class Two(FlowSpec):
        @step
        def one() -> None:
            asked.wait(DEADLINE_S)
            raise ValueError("the first")

        @step
        def two() -> None:
            asked.wait(DEADLINE_S)
            raise KeyError("the second")

        @step
        def three() -> None: ...

        @optional(condition=lambda step: both_have_failed())
        @needs(predecessors=[three])
        @step
        def four(nothing: None) -> None: ...

    flow = Two("two", 1, Configuration(engine="local"))

    def both_have_failed() -> bool:
        """Hold up the loop until the ends of three calls lie in its inbox."""
        asked.set()
        until(lambda: len(flow.runner._driver._inbox) >= 5)
        return True

    with pytest.raises(FlowFailed, match=r"^Flow failed: Step (one|two)_0 failed") as caught:
        flow.run()
    first, second = str(caught.value).splitlines()
    assert second.startswith("also failed: Step ")
    assert {"one_0", "two_0"} == {line.partition("Step ")[2].partition(" ")[0] for line in (first, second)}


def test_sys_exit_is_a_failure(engine: str) -> None:
    class Leaves(FlowSpec):
        @step
        def leave() -> None:
            sys.exit(0)

        @needs(predecessors=[leave])
        @step
        def after(result: Any) -> Any:
            return result

    flow = Leaves("leaves", 1, Configuration(engine=engine))
    with pytest.raises(FlowFailed, match="Step leave_0 failed: StepExited") as caught:
        flow.run()
    assert isinstance(caught.value.__cause__, StepExited)
    assert statuses(flow, flow.after) == []


def test_a_foreach_step_must_return_something_iterable(engine: str) -> None:
    class Odd(FlowSpec):
        @foreach
        @step
        def items(data: int) -> int:
            return data

    with pytest.raises(FlowFailed, match=r"Step items_0 failed: TypeError: step items_0 has @foreach .* not int"):
        ran(Odd, 5, engine)


def test_values_that_cannot_travel_are_named(engine: str) -> None:
    class Lock(FlowSpec):
        @step
        def make() -> Any:
            return threading.Lock()

    with pytest.raises(FlowFailed, match="NotSerializable: the result of step make_0 cannot travel"):
        ran(Lock, 1, engine)
    with pytest.raises(FlowFailed, match="NotSerializable: the input of flow test cannot travel"):
        ran(First, threading.Lock(), engine)


def test_options_of_a_step_hold_for_each_node(engine: str, tmp_path: Path) -> None:
    class Flaky(FlowSpec):
        @foreach
        @step
        def items(data: Any) -> Any:
            return data

        @needs(predecessors=[items])
        @step(retry=3, retry_delay=0)
        def work(item: int) -> int:
            tries = tmp_path / str(item)
            tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
            if len(tries.read_text()) < item:
                raise ValueError("again")
            return item

    flow = ran(Flaky, [1, 2, 3], engine)
    assert flow.get_result(flow.work) == [1, 2, 3]
    assert [len((tmp_path / str(item)).read_text()) for item in (1, 2, 3)] == [1, 2, 3]


def test_a_step_that_takes_too_long_is_timed_out(engine: str) -> None:
    class Hangs(FlowSpec):
        @step(timeout=0.2)
        def hang() -> None:
            time.sleep(5)

    flow = Hangs("hangs", 1, Configuration(engine=engine))
    with pytest.raises(FlowFailed, match="Step hang_0 failed: StepTimedOut") as caught:
        flow.run()
    assert isinstance(caught.value.__cause__, StepTimedOut)
    assert statuses(flow, flow.hang) == [STATUS_TIMED_OUT]


def test_a_process_ends_at_once_although_a_step_still_runs(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import threading
        from raflow.workflows.spec import Configuration, FlowSpec, step

        begun = threading.Event()

        class Held(FlowSpec):
            @step
            def held():
                begun.set()
                threading.Event().wait()

            @step
            def fails():
                begun.wait()
                raise ValueError("bad")

        Held("held", 1, Configuration(engine="local")).run()
        """)
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert "ValueError: bad" in done.stderr
    assert "Flow failed: Step fails_0 failed: ValueError: bad" in done.stderr
    assert done.stdout == ""


# -- runs ---------------------------------------------------------------------------------------------


def test_each_run_is_fresh(engine: str) -> None:
    flow = ran(Many, 2, engine)
    flow.run()
    assert flow.get_result(flow.product) == ["1a", "1b", "2a", "2b"]
    flow.input = 1
    flow.run()
    assert flow.get_result(flow.product) == ["1a"]
    assert flow.runner.node_idxs["product"] == len(flow.graph.find(flow.product).nodes) == 1


def test_a_flow_that_failed_can_run_again() -> None:
    flow = Failing("failing", [13], Configuration(engine="local"))
    with pytest.raises(FlowFailed):
        flow.run()
    flow.input = [1]
    flow.run()
    assert flow.get_result(flow.gather) == [[2]]
    assert not flow.runner.fail


def test_statuses_are_up_to_date_while_a_flow_runs() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Watched(FlowSpec):
        @step
        def held() -> str:
            begun.set()
            go_on.wait(DEADLINE_S)
            return "done"

        @needs(predecessors=[held])
        @step
        def after(text: str) -> str:
            return text

        @repeat(2)
        @step
        def waits() -> None: ...

    flow = Watched("watched", 1, Configuration(1, engine="local"))
    running = threading.Thread(target=flow.run)
    running.start()
    assert begun.wait(DEADLINE_S)
    until(lambda: statuses(flow, flow.held) == [STATUS_RUNNING])
    assert statuses(flow, flow.waits) == [STATUS_PENDING, STATUS_PENDING]
    assert statuses(flow, flow.after) == []
    assert flow.get_result(flow.held) is None
    go_on.set()
    running.join(DEADLINE_S)
    assert statuses(flow, flow.held) == statuses(flow, flow.after) == [STATUS_SUCCEEDED]


def test_thousands_of_tiny_items_are_all_counted() -> None:
    class Tiny(FlowSpec):
        @foreach
        @step
        def items(data: int) -> Any:
            return range(data)

        @needs(predecessors=[items])
        @step
        def work(item: int) -> int:
            return item

        @join
        @needs(predecessors=[work])
        @step
        def count(rows: list[Any]) -> int:
            return len(rows)

    flow = Tiny("tiny", 5000, Configuration(engine="local", max_step_inputs=0))
    flow.run()
    assert flow.get_result(flow.count) == 5000


def test_a_chain_of_ten_steps_takes_less_than_20_ms() -> None:
    members: dict[str, Any] = {}
    for number in range(10):

        def body(data: int) -> int:
            return data + 1

        body.__name__ = f"step{number}"
        before = [members[f"step{number - 1}"]] if number else []
        members[body.__name__] = needs(predecessors=before)(step(body))
    chain: Any = type("Chain", (FlowSpec,), members)
    flow = chain("chain", 0, Configuration(engine="local"))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        flow.run()
        times.append(time.perf_counter() - began)
    assert flow.get_result(flow.step9) == 10
    assert min(times) < 0.02
