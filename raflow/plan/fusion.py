"""Which ops run together in one replica.

Theory. A result that goes to the next op in the same process costs nothing; one that goes through the
object store is written, announced and read. So ops that have no wishes of their own run together with
their sources and sinks. A processor that sets its own replicas, scaling, concurrency or resources keeps a
pool of its own, with the source that only it reads. Sources and operators have no wishes: they join what is
around them. An exchange always ends a stage.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from raflow.code import Code
from raflow.errors import FlowError
from raflow.graph import depths
from raflow.operators.contract import Wide
from raflow.plan.stages import Op

LIGHT, PLAIN = "light", "plain"
"""A group without wishes: only sources and operators; with processors. Else the wish of its one processor."""


@dataclass
class Fused:
    """Ops that run together."""

    ops: list[Op]
    kind: str
    why: list[str] = field(default_factory=list)
    """Why it does not run together with each stage before it."""


def fuse(ops: Sequence[Op], wishes: Mapping[str, str]) -> list[Fused]:
    """Return the groups of ops that run together; those that give come before those that take.

    Args:
        ops: The earlier ones first.
        wishes: By name of a processor that keeps a pool of its own: why.
    """
    group = {op.name: Fused([op], _kind(op, wishes)) for op in ops}
    by_name = {op.name: op for op in ops}
    edges = [(by_name[name], op) for op in ops for name in op.inputs]
    forward = [edge for edge in edges if not isinstance(edge[1].work, Wide)]
    forward.sort(key=lambda edge: LIGHT not in (group[edge[0].name].kind, group[edge[1].name].kind))
    for giver, taker in forward:
        left, right = group[giver.name], group[taker.name]
        if left is not right and not _apart(left, right, forward, group) and not _circle(left, right, edges, group):
            left.ops += right.ops
            left.kind = right.kind if left.kind == LIGHT else left.kind
            group.update({op.name: left for op in right.ops})
    return _explained(ops, edges, group)


def _kind(op: Op, wishes: Mapping[str, str]) -> str:
    if op.name in wishes:
        return f"{op.name!r} {wishes[op.name]}"
    return PLAIN if isinstance(op.work, Code) else LIGHT


def _apart(left: Fused, right: Fused, forward: Sequence[tuple[Op, Op]], group: Mapping[str, Fused]) -> str:
    """Return why two groups do not run together; empty if they can."""
    if LIGHT not in (left.kind, right.kind) and (left.kind, right.kind) != (PLAIN, PLAIN):
        return right.kind if right.kind != PLAIN else left.kind
    if left.kind == LIGHT:
        takers = [group[taker.name] for giver, taker in forward if group[giver.name] is left]
        kinds = {taker.kind for taker in takers if taker is not left} - {LIGHT}
        if len(kinds) > 1:
            return f"what {left.ops[-1].name!r} gives goes to several pools"
    return ""


def _circle(left: Fused, right: Fused, edges: Collection[tuple[Op, Op]], group: Mapping[str, Fused]) -> bool:
    """Return whether a stage of both would wait for itself: through another stage, or an exchange in it."""
    number = {id(one): n for n, one in enumerate(group.values())}
    number[id(right)] = number[id(left)]
    pairs = {(number[id(group[giver.name])], number[id(group[taker.name])]) for giver, taker in edges}
    inside = any(
        isinstance(taker.work, Wide) and number[id(group[giver.name])] == number[id(group[taker.name])]
        for giver, taker in edges
    )
    try:
        depths(set(number.values()), [pair for pair in pairs if pair[0] != pair[1]])
    except FlowError:
        return True
    return inside


def _explained(ops: Sequence[Op], edges: Sequence[tuple[Op, Op]], group: Mapping[str, Fused]) -> list[Fused]:
    """Return the groups in order, their ops in order, with the reasons why they are apart."""
    place = {op.name: n for n, op in enumerate(ops)}
    found = list({id(one): one for one in group.values()}.values())
    between = [(group[giver.name], group[taker.name], taker) for giver, taker in edges]
    forward = [edge for edge in edges if not isinstance(edge[1].work, Wide)]
    for left, right, taker in between:
        if left is not right:
            exchange = isinstance(taker.work, Wide)
            why = f"exchange: {taker.label}" if exchange else _apart(left, right, forward, group)
            right.why.append(why or "it would wait for itself")
    for one in found:
        one.ops.sort(key=lambda op: place[op.name])
    numbers = {id(one): n for n, one in enumerate(found)}
    pairs = {(numbers[id(left)], numbers[id(right)]) for left, right, _ in between if left is not right}
    depth = depths(range(len(found)), pairs)
    return [found[n] for n in sorted(depth, key=lambda n: (depth[n], place[found[n].ops[0].name]))]
