"""From a Flow to a Plan: names, options and validation of every node, then fusion."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from raflow import convert
from raflow.code import Code
from raflow.credentials import Credentials
from raflow.dependencies.consumers import sides, with_dependencies
from raflow.errors import DuplicateName, FlowError, InvalidOption, InvalidProcessor
from raflow.nodes import Node, ancestry, label
from raflow.operators.contract import Narrow, Wide
from raflow.operators.passing import Side
from raflow.options import POOL_OPTIONS, FlowOptions, ProcessorOptions
from raflow.plan.fusion import Fused, fuse
from raflow.plan.order import in_order
from raflow.plan.stages import Exchange, Op, Plan, Stage
from raflow.sinks import Sink, same_place
from raflow.sources import Source
from raflow.units import did_you_mean, shortened

if TYPE_CHECKING:
    from raflow.flow import Flow

_TITLE = 40
"""Characters of a name that says what a node does."""

Overrides = Mapping[str, Mapping[str, Any]]


def make_plan(flow: Flow, overrides: Overrides) -> Plan:
    """Validate a Flow; nothing is read or started.

    Raises:
        FlowError: It has no processors, or one of them is wrong.
    """
    if not flow.nodes:
        msg = f"flow {flow.flow_id!r} has no processors; add one with @flow.consumer(source=..., sink=...)"
        raise FlowError(msg)
    nodes = list(ancestry(flow.nodes))
    names = _names(nodes)
    check_names(flow, overrides)
    ops = [_op(node, names, flow.options, overrides) for node in nodes]
    wishes = {names[node]: wish for node in nodes if (wish := _wish(node, overrides.get(node.name, {})))}
    return Plan(flow.flow_id, flow.options, _stages(fuse(ops, wishes), flow.options))


def dry(plan: Plan, sink: Sink) -> Plan:
    """Return the plan with one sink in place of all, and failing records skipped as they would be kept."""
    return replace(plan, stages=tuple(_dry(stage, sink) for stage in plan.stages))


def _dry(stage: Stage, sink: Sink) -> Stage:
    ops = []
    for op in stage.ops:
        update = {"on_error": "skip"} if op.error_sink else {}
        sinks = (sink,) if op.sinks and not isinstance(op.work, Side) else ()
        ops.append(replace(op, sinks=sinks, options=op.options.model_copy(update=update)))
    return replace(stage, ops=tuple(ops), options=stage.options.model_copy(update={"num_replicas": 1}))


def _names(nodes: Sequence[Node]) -> dict[Node, str]:
    """Return a name for each node: its own, or one that says what it does."""
    given = [node.name for node in nodes if node.name]
    twice = next((name for name in given if given.count(name) > 1), None)
    if twice:
        msg = f"two processors are named {twice!r}; give one of them name='...'"
        raise DuplicateName(msg)
    names: dict[Node, str] = {node: node.name for node in nodes if node.name}
    for node in nodes:
        if not node.name and not isinstance(node.work, Source):
            names[node] = _unused(_title(node.work), names.values())
    taker = {before: node for node in reversed(nodes) for before in node.inputs}
    for node in nodes:
        if node not in names:
            names[node] = _unused(f"{names[taker[node]]}.source" if node in taker else "source", names.values())
    return names


def _title(work: Code | Narrow | Wide) -> str:
    return label(work) if isinstance(work, Code) else shortened(label(work), _TITLE)


def _unused(name: str, taken: Any) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} {number}"
    return found


def check_names(flow: Flow, overrides: Overrides, others: Collection[str] = ()) -> None:
    """Refuse options of what the Flow does not have.

    Args:
        flow: The Flow.
        overrides: Options by name.
        others: Names beside those of processors.

    Raises:
        InvalidOption: A name is unknown; the message has those there are.
    """
    names = [*(node.name for node in ancestry(flow.nodes) if node.name), *others]
    for name in overrides:
        if name not in names:
            hint = did_you_mean(name, names) or f"; there are: {', '.join(names)}"
            msg = f"flow {flow.flow_id!r} has no processor {name!r}{hint}"
            raise InvalidOption(msg)


def _wish(node: Node, override: Mapping[str, Any]) -> str:
    """Return why a processor keeps a pool of its own; empty if it does not."""
    given = {**node.options, **override}
    if given.get("fuse") is False:
        return "has fuse=False"
    own = [name for name in POOL_OPTIONS if name in given]
    return f"sets {' and '.join(own)}" if own else ""


def _op(node: Node, names: Mapping[Node, str], flow: FlowOptions, overrides: Overrides) -> Op:
    try:
        options = ProcessorOptions.layered(flow.processor_defaults(), node.options, overrides.get(node.name, {}))
    except InvalidOption as error:
        msg = f"processor {names[node]!r}: {error}"
        raise InvalidOption(msg) from None
    credentials = flow.credentials()
    if isinstance(options.on_error, Sink):
        options = options.model_copy(update={"on_error": options.on_error.with_credentials(credentials)})
    op = Op(
        name=names[node],
        work=node.work.with_credentials(credentials) if isinstance(node.work, Source) else node.work,
        inputs=tuple(names[one] for one in node.inputs),
        sinks=tuple(sink.with_credentials(credentials) for sink in node.sinks),
        options=options,
    )
    _check_places(op)
    return _with_code(op, node.work, credentials) if isinstance(node.work, Code) else op


def _check_places(op: Op) -> None:
    """Raise if two sinks write to one folder: the files of a unit have the same names in both, so one would be lost."""
    for one, other in combinations(op.all_sinks, 2):
        if same_place(one, other):
            which = "sink and on_error" if other is op.error_sink else "two sinks"
            msg = f"{which} of processor {op.name!r} both write to {one!r}, over each other's files; give two folders"
            raise InvalidOption(msg)


def _with_code(op: Op, code: Code, credentials: Credentials) -> Op:
    takes, gives = code.annotations(op.name)
    work = replace(code, function=with_dependencies(code.function, op.name, credentials))
    try:
        returned = None if code.keeps else convert.returned_schema(gives)
        return replace(op, work=work, shape=convert.shape_of(takes), returned=returned)
    except InvalidProcessor as error:
        msg = f"processor {op.name!r}: {error}"
        raise InvalidProcessor(msg) from error


def _stages(groups: Sequence[Fused], flow: FlowOptions) -> tuple[Stage, ...]:
    home = {op.name: number for number, group in enumerate(groups) for op in group.ops}
    takers = [(name, op) for group in groups for op in group.ops for name in op.inputs]
    names: list[str] = []
    for group in groups:
        names.append(_unused(_stage_name(group), names))
    return in_order([_stage(group, names[n], n, home, takers, flow) for n, group in enumerate(groups)])


def _stage(
    group: Fused, name: str, number: int, home: Mapping[str, int], takers: Sequence[tuple[str, Op]], flow: FlowOptions
) -> Stage:
    across = [(giver, op) for giver, op in takers if home[giver] != home[op.name]]
    batches = [(giver, op) for giver, op in across if not isinstance(op.work, Wide)]
    wide = dict.fromkeys((giver, op) for giver, op in across if isinstance(op.work, Wide) and home[giver] == number)
    exchanges = (
        Exchange(giver, op.name, side) for giver, op in wide for side, one in enumerate(op.inputs) if one == giver
    )
    return Stage(
        name=name,
        ops=tuple(one for op in group.ops for one in (op, *_sides(op, home, flow.credentials()))),
        options=_pool_options(group, flow),
        emits=tuple(dict.fromkeys(giver for giver, _ in batches if home[giver] == number)),
        takes=tuple(dict.fromkeys(giver for giver, op in batches if home[op.name] == number)),
        exchanges=tuple(exchanges),
        takers={op.name: op.work for _, op in wide if isinstance(op.work, Wide)},
        why="; ".join(dict.fromkeys(group.why)),
    )


def _sides(op: Op, taken: Collection[str], credentials: Credentials) -> Iterator[Op]:
    """Yield an op for each side output of a function: it writes beside it, in the same replica."""
    names = list(taken)
    for sink in sides(op.work.function) if isinstance(op.work, Code) else ():
        names.append(_unused(f"{op.name}.side", names))
        options = op.options.model_copy(update={"on_error": "fail"})
        yield Op(names[-1], Side(), (op.name,), (sink.with_credentials(credentials),), options)


def _stage_name(group: Fused) -> str:
    code = [op.name for op in group.ops if isinstance(op.work, Code)]
    operators = [op.name for op in group.ops if isinstance(op.work, Wide)] + code
    narrow = [op.name for op in group.ops if isinstance(op.work, Narrow)]
    return " → ".join(operators or narrow or [shortened(group.ops[0].label, _TITLE)])


def _pool_options(group: Fused, flow: FlowOptions) -> ProcessorOptions:
    """Return the options of the processor that has wishes, else of the first one, else the Flow's.

    Order and patience are the pool's as soon as one of its processors asks for them.
    """
    code = [op for op in group.ops if isinstance(op.work, Code)]
    if not code:
        return ProcessorOptions.layered(flow.processor_defaults())
    leading = next((op for op in code if group.kind.startswith(f"{op.name!r} ")), code[0])
    return leading.options.model_copy(
        update={
            "preserve_order": any(op.options.preserve_order for op in code),
            "start_timeout_s": max(op.options.start_timeout_s for op in code),
        }
    )
