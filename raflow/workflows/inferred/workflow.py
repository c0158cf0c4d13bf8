"""Workflows with their dependencies, ready to run on this machine or on Ray."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import keyword
import logging
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from raflow import engines
from raflow.errors import FlowError, InvalidOption, TaskError
from raflow.options import StepOptions
from raflow.runtime.steps.heartbeat import heartbeat
from raflow.runtime.steps.values import replace
from raflow.runtime.steps.workers import Workers
from raflow.workflows.inferred.calls import Call, as_task_error
from raflow.workflows.inferred.history import History
from raflow.workflows.inferred.lazy import copied, is_result, results_in, unwrapped
from raflow.workflows.inferred.operations import Restart, finish_order
from raflow.workflows.inferred.run import Abandoned, Run
from raflow.workflows.inferred.scope import Activity, Dependency, Hosted, Scope
from raflow.workflows.inferred.trace import Trace

log = logging.getLogger("raflow")

_EXECUTORS: dict[Any, bool] = {
    "threads": False,
    "processes": True,
    concurrent.futures.ThreadPoolExecutor: False,
    concurrent.futures.ProcessPoolExecutor: True,
}
"""Whether activities run in child processes, by what was asked for."""


class InferredWorkflow:
    """A workflow and what it depends on; see `LocalWorkflow` and `RayWorkflow`.

    Attributes:
        trace: What the last run has called; None before the first run.
    """

    def __init__(self, w: Callable[..., Any], workflow_workers: int, storage: Any, workflow_id: str | None) -> None:
        if not callable(w):
            msg = f"a workflow is a class or a function that returns one, not {w!r}"
            raise InvalidOption(msg)
        if workflow_workers < 1:
            msg = f"workflow_workers is {workflow_workers}; it must be at least 1"
            raise InvalidOption(msg)
        if (storage is None) != (workflow_id is None):
            msg = "a durable workflow needs both storage and workflow_id: where its records are, and whose they are"
            raise InvalidOption(msg)
        self._storage = storage
        self._id = workflow_id
        self._factory = w
        self._slots = workflow_workers
        self._dependencies: dict[str, Activity | InferredWorkflow] = {}
        self.name = getattr(w, "__name__", type(w).__name__)
        self.trace: Trace | None = None

    def conf_activity(
        self,
        dep_name: str,
        f: Callable[..., Any],
        *,
        retry: int | tuple[float, ...] = 1,
        timeout: float = 0,
        heartbeat: float | None = None,
        **options: Any,
    ) -> None:
        """Make a function a dependency: its calls run in workers.

        Args:
            dep_name: Parameter of the workflow's constructor that gets it.
            f: Plain or async.
            retry: Attempts in all, or the delay before each attempt in seconds. Errors and timeouts are retried.
            timeout: Seconds that an attempt may take; 0: no bound.
            heartbeat: Seconds within which an attempt must call `heartbeat()` again, or it has timed out, counted
                from the call of the function; None: no bound. An activity whose first parameter has that name
                gets the function there.
            options: Further ones of `raflow.options.StepOptions`.

        Raises:
            InvalidOption: The name is no identifier, a keyword or taken; or an option cannot be used.
        """
        if not callable(f):
            msg = f"the activity {dep_name!r} must be callable, not {f!r}"
            raise InvalidOption(msg)
        if heartbeat is not None and not (isinstance(heartbeat, int | float) and 0 < heartbeat < math.inf):
            msg = f"heartbeat of {dep_name!r} is {heartbeat!r}; it must be a positive number of seconds, or None"
            raise InvalidOption(msg)
        checked = StepOptions(retry=retry, timeout=timeout, **options)
        self._add(dep_name, Activity(dep_name, _activity(f), checked, heartbeat or 0))

    def conf_workflow(self, dep_name: str, w: InferredWorkflow) -> None:
        """Make a workflow a dependency: its calls run in this process, its activities on this one's engine.

        Args:
            dep_name: Parameter of the workflow's constructor that gets it.
            w: With its own dependencies; may be this workflow itself.

        Raises:
            InvalidOption: The name is no identifier, a keyword or taken; or `w` is not a configured workflow.
        """
        if not isinstance(w, InferredWorkflow):
            msg = f"the workflow {dep_name!r} is {w!r}; wrap it: conf_workflow({dep_name!r}, LocalWorkflow(...))"
            raise InvalidOption(msg)
        self._add(dep_name, w)

    def run(self, *args: Any, _wait: bool = False, _trace: bool = False, _resume: bool = False, **kwargs: Any) -> Any:
        """Run the workflow and return its plain value.

        Args:
            args: For the workflow, as `kwargs`.
            _wait: Wait also for tasks that are still running when the workflow has ended; else they are given up.
            _trace: Log the trace as Mermaid text. It is in `trace` in any case.
            _resume: Go on with what the last run of this `workflow_id` has recorded, also in another process.
                Calls that had ended are not made again; without a record it begins anew.
            kwargs: For the workflow.

        Raises:
            FlowError: A dependency is missing or not asked for; nothing has run.
            TaskError: The workflow has failed; `__cause__` is the original error.
            ResumeError: A call or the arguments are not those that were recorded; the message names the call.
        """
        self._check(set())
        history = self._history((args, kwargs), resume=_resume)
        workers = self._workers()
        workers.start()
        run = Run(workers, self._slots, history)
        try:
            return self._root(run, args, kwargs, finish=_wait)
        finally:
            workers.close()
            self.trace = Trace(self.name, run.trace)
            if _trace:
                log.info("trace of %s:\n%s", self.name, self.trace.to_mermaid())

    def _workers(self) -> Workers:
        raise NotImplementedError

    def _history(self, arguments: Any, *, resume: bool) -> History | None:
        if self._storage is not None and self._id is not None:
            return History(self._storage, self._id, resume=resume, arguments=arguments)
        if resume:
            msg = f"{self.name} cannot be resumed: it was made without storage and workflow_id"
            raise InvalidOption(msg)
        return None

    def _add(self, name: str, what: Activity | InferredWorkflow) -> None:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            msg = f"{name!r} cannot name a dependency: it must be an identifier and no keyword"
            raise InvalidOption(msg)
        if name in self._dependencies:
            msg = f"{self.name} already has a dependency {name!r}; names must differ"
            raise InvalidOption(msg)
        self._dependencies[name] = what

    def _check(self, checked: set[InferredWorkflow]) -> None:
        """Compare what the constructor asks for with what there is, here and in all sub-workflows."""
        checked.add(self)
        try:
            inspect.signature(self._factory).bind(**self._dependencies)
        except TypeError as error:
            msg = (
                f"the dependencies of {self.name} do not fit its constructor: {error}; configured are "
                f"{sorted(self._dependencies)}, asked for {list(inspect.signature(self._factory).parameters)}"
            )
            raise FlowError(msg) from None
        for each in self._dependencies.values():
            if isinstance(each, InferredWorkflow) and each not in checked:
                each._check(checked)

    # -- one run ------------------------------------------------------------------------------------------

    def _root(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], *, finish: bool) -> Any:
        values: list[Any] = []
        errors: list[BaseException] = []

        def job() -> None:
            try:
                values.append(replace(self._executed(Scope(run), args, kwargs), self._delivered))
            except Abandoned:
                raise
            except BaseException as error:
                errors.append(error)

        run.root(job, finish=finish)
        if run.refused:
            raise run.refused
        if errors:
            error = errors[0]
            raise error if isinstance(error, TaskError) else as_task_error(error, f"workflow {self.name}")
        self._warn([call for call in run.failed if id(call.failure) not in run.seen])
        return values[0]

    def _delivered(self, each: Any) -> Any:
        """Return a part of the final value free of lazy results, also those in objects of its own."""
        return each.__wrapped__ if is_result(each) else copied(each, f"the result of {self.name}")

    def _executed(self, scope: Scope, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the workflow's code in this thread until it no longer restarts; waits for the results it returns."""
        while True:
            value = self._build(scope)(*args, **kwargs)
            for result in finish_order(results_in(value)):
                result._self_call.check()
            if not isinstance(value, Restart):
                return value
            args, kwargs = replace(tuple(value), unwrapped)
            scope = scope.again()

    def _warn(self, unseen: list[Call]) -> None:
        if unseen:
            told = ", ".join(str(call.error()) for call in unseen)
            log.warning(
                "workflow %s has succeeded without looking at results of tasks that failed: %s", self.name, told
            )

    def _build(self, scope: Scope) -> Any:
        dependencies = {
            name: Dependency(scope, each if isinstance(each, Activity) else Hosted(name, each._executed))
            for name, each in self._dependencies.items()
        }
        return self._factory(**dependencies)


def _activity(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return what is called in workers; hashable, because the driver sorts calls by function."""
    if next(iter(_parameters(f)), "") == "heartbeat":
        return functools.partial(f, heartbeat)
    return f if isinstance(f, Hashable) else functools.partial(f)


def _parameters(f: Callable[..., Any]) -> Iterable[str]:
    try:
        return inspect.signature(f).parameters
    except (TypeError, ValueError):  # builtins may have none
        return ()


class LocalWorkflow(InferredWorkflow):
    """A workflow that runs on this machine.

    Args:
        w: A class whose constructor takes the dependencies and whose instances are called with the input, or
            a function that takes them and returns a function.
        activity_workers: Activities that run at once.
        workflow_workers: Workflows, sub-workflows included, that compute at once; those that wait do not count.
        executor: Where activities run: `"threads"` or `"processes"`, or the executor classes of
            `concurrent.futures`, which stand for these.
        storage: Where calls and their results are recorded, so that `run(…, _resume=True)` can go on: a folder as
            path or fsspec URL, `raflow.checkpoints`, a storage of `raflow.providers`, or an object with
            `read(key)` and `write(key, value)`. That of the root workflow serves its sub-workflows too.
        workflow_id: Under which they are recorded.
    """

    def __init__(
        self,
        w: Callable[..., Any],
        activity_workers: int = 8,
        workflow_workers: int = 2,
        executor: Any = "threads",
        storage: Any = None,
        workflow_id: str | None = None,
    ) -> None:
        super().__init__(w, workflow_workers, storage, workflow_id)
        if activity_workers < 1:
            msg = f"activity_workers is {activity_workers}; it must be at least 1"
            raise InvalidOption(msg)
        if executor not in _EXECUTORS:
            msg = f'executor is {executor!r}; it can be "threads" or "processes"'
            raise InvalidOption(msg)
        self._activity_workers = activity_workers
        self._processes = _EXECUTORS[executor]

    def _workers(self) -> Workers:
        name, reason = engines.choose("auto", "local")
        log.debug("workflow %s runs on the engine %s (%s)", self.name, name, reason)
        return engines.workers(name, threads=self._activity_workers, processes=self._processes)


class RayWorkflow(InferredWorkflow):
    """A workflow whose activities run on Ray; large results stay in its object store.

    Args:
        w: As for `LocalWorkflow`.
        workflow_workers: As for `LocalWorkflow`, like `storage` and `workflow_id`.
    """

    def __init__(
        self,
        w: Callable[..., Any],
        workflow_workers: int = 2,
        storage: Any = None,
        workflow_id: str | None = None,
    ) -> None:
        super().__init__(w, workflow_workers, storage, workflow_id)

    def _workers(self) -> Workers:
        return engines.workers("ray")
