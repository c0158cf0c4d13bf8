"""What a workflow's code holds: its dependencies, whose calls are named and numbered within their workflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from raflow.errors import NotSerializable, TaskError
from raflow.options import StepOptions
from raflow.runtime.failure import explain
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.step import PLAIN, Step
from raflow.runtime.steps.values import Packed, pack, replace, unpack
from raflow.runtime.steps.worker import now
from raflow.workflows.inferred.calls import Call
from raflow.workflows.inferred.history import Place
from raflow.workflows.inferred.lazy import Result, copied, is_result, unwrapped
from raflow.workflows.inferred.run import Abandoned, Run

_ATOMS = (type(None), bool, int, float, str, bytes)

Job = Callable[["Scope", tuple[Any, ...], dict[str, Any]], Any]
"""What runs in a thread of the workflow's process: a sub-workflow, or a part of a workflow."""


@dataclass(frozen=True, eq=False)
class Activity:
    """A function that workers call."""

    name: str
    function: Callable[..., Any]
    options: StepOptions
    heartbeat: float


@dataclass(frozen=True, eq=False)
class Hosted:
    """A job for a thread of the workflow's process."""

    name: str
    job: Job


class Scope:
    """The calls of one workflow, or of a part of it that goes on beside.

    Args:
        run: To which it belongs.
        owner: The sub-workflow's call that led to it; None for the root workflow.
        turn: 1, and one more with each restart.
    """

    def __init__(self, run: Run, owner: Call | None = None, turn: int = 1) -> None:
        self.run = run
        self.owner = owner
        self.turn = turn
        self.told: list[Call] = []
        """Failed calls of which the code was told since its last call."""
        self._calls = 0
        self._times: Counter[str] = Counter()

    def again(self) -> Scope:
        """Return the scope of the next turn."""
        if not self.owner:
            self.run.trace.clear()
        return Scope(self.run, self.owner, self.turn + 1)

    @property
    def path(self) -> str:
        """What the ids of its calls begin with."""
        return f"{self.owner.step.id}/" if self.owner else ""

    def call(self, what: Activity | Hosted, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
        """Schedule a call and return its lazy result.

        Raises:
            TaskError: An argument cannot travel, is a generator, or contains itself.
        """
        name = self._named(what.name)
        step = self._step(what, name)
        needs: list[Call] = []
        try:
            step.args, step.kwargs = replace((args, kwargs), lambda each: self._sent(each, name, needs))
        except (NotSerializable, RecursionError) as error:
            msg = f"call {name}: {error or 'its arguments are nested too deeply'}"
            raise TaskError(msg) from error
        step.after = tuple(need.step for need in needs)
        self._calls += 1
        told, self.told = self.told, []
        self.run.survived(told)
        return self._added(step, needs, Place(self.path, self.turn, self._calls))

    def beside(self, name: str, job: Callable[[Scope], Any], results: list[Result]) -> Result:
        """Do a part of the workflow in a thread of its own and return its lazy result.

        Args:
            name: Of the part.
            job: Gets a scope of its own, so that its calls are numbered apart.
            results: What it uses, for the trace; it is not waited for.
        """
        name = self._named(name)
        step = Step(name, job, id=name, host=lambda step: self._host(step, lambda scope, *_: job(scope)))
        return self._added(step, [result._self_call for result in results])

    def _named(self, name: str) -> str:
        self._times[name] += 1
        again = "" if self.turn == 1 else f"~{self.turn}"
        return f"{self.path}{name}#{self._times[name]}{again}"

    def _added(self, step: Step, needs: list[Call], place: Place | None = None) -> Result:
        call = Call(self, step, place)
        self.run.add(call, [*([self.owner] if self.owner else []), *needs])
        return Result(call)

    def _step(self, what: Activity | Hosted, name: str) -> Step:
        if isinstance(what, Activity):
            return Step(what.name, what.function, options=what.options, id=name, heartbeat=what.heartbeat)
        return Step(what.name, what.job, options=PLAIN, id=name, host=lambda step: self._host(step, what.job))

    def _sent(self, each: Any, name: str, needs: list[Call]) -> Any:
        """Return what stands for a part of the arguments: the step of a result, a copy of anything else."""
        if is_result(each):
            call: Call = each._self_call
            if call.run is self.run:
                needs.append(call)
                if not each._self_touched or isinstance(each, _ATOMS) or call.still(each.__wrapped__):
                    return call.step
            each = each.__wrapped__
        if isinstance(each, Iterator):
            msg = f"an argument is a {type(each).__name__}, which can be read only once; pass a list"
            raise NotSerializable(msg)
        return each if isinstance(each, _ATOMS) else copied(each, "an argument")

    # -- jobs ---------------------------------------------------------------------------------------------

    def _host(self, step: Step, job: Job) -> None:
        """Run a job in a thread; called on the driver's thread."""
        args, kwargs = replace((step.args, step.kwargs), self._received)

        def whole() -> None:
            began = now()
            try:
                value = job(Scope(self.run, step.note), args, kwargs)
                attempt = Attempt(began, now(), (self._kept(value, step),))
            except Abandoned:
                raise
            except BaseException as error:
                attempt = Attempt(began, now(), failure=explain(error, step.id))
            self.run.finish(step, attempt)

        self.run.spawn(whole)

    def _received(self, each: Any) -> Any:
        """Return what a job gets for a result: the value, or if that stays in the engine's store a lazy result."""
        if not isinstance(each, Step):
            return each
        call: Call = each.note
        return unpack(call.stored()) if isinstance(call.stored(), Packed) else Result(call)  # type: ignore[arg-type]

    def _kept(self, value: Any, step: Step) -> Any:
        """Return a job's result as the engine keeps it; one that is a call's result stays where it is."""
        if is_result(value) and not value._self_touched:
            value._self_call.check()
            return value._self_call.stored()
        return pack(replace(value, unwrapped), f"the result of {step.id}")


class Dependency:
    """What a workflow's constructor gets: called, it returns a lazy result."""

    def __init__(self, scope: Scope, what: Activity | Hosted) -> None:
        self.scope = scope
        self.what = what

    def __call__(self, *args: Any, **kwargs: Any) -> Result:
        """Schedule a call and return its lazy result; see `Scope.call`."""
        return self.scope.call(self.what, args, kwargs)

    def __repr__(self) -> str:
        return f"<{self.what.name} of a workflow>"

    def __reduce__(self) -> Any:
        msg = f"{self.what.name!r} is a dependency of a workflow and can only be called in it; pass its result"
        raise NotSerializable(msg)
