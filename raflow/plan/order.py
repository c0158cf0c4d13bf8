"""Where rows of a unit have to stay in their order: what goes by a row's place must find it there again.

Theory. A unit that is done again must give the same rows to the same partitions, since some of these may be
published. A key says where a row belongs; where rows are dealt out evenly its place does. In a stage that is
fed, a unit may be in several replicas, whose shares differ each time; so that stage, and each one before it,
keeps a unit in one replica and its batches in order. Where a unit comes by several ways these have no order
among them, and rows are dealt out by what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from raflow.operators.contract import Even, Narrow
from raflow.plan.stages import Exchange, Stage


def in_order(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages with those keeping the order that have to: for the user, or to give the same again."""
    asked = _before([stage for stage in stages if stage.options.preserve_order], stages, through=False)
    placed = _before([stage for stage in stages if _goes_by_place(stage)], stages, through=True)
    by_content = any(len(stage.takes) > 1 for stage in placed)
    kept = {stage.name for stage in (*asked, *placed) if stage.takes}
    return tuple(_with(stage, stage.name in kept, by_content) for stage in stages)


def _with(stage: Stage, keeps: bool, by_content: bool) -> Stage:
    if keeps:
        stage = replace(stage, options=stage.options.model_copy(update={"preserve_order": True}))
    if not by_content:
        return stage
    exchanges = (replace(one, by_content=_is_even(stage, one)) for one in stage.exchanges)
    return replace(stage, exchanges=tuple(exchanges))


def _before(last: Iterable[Stage], stages: Sequence[Stage], *, through: bool) -> list[Stage]:
    """Return some stages with all that feed them.

    Args:
        last: Those.
        stages: All.
        through: Whether also those from which records come through exchanges.
    """
    found = list(last)
    for taker in found:
        for stage in stages:
            feeds = set(stage.emits) & set(taker.takes)
            gives = through and any(one.taker in taker.by_name for one in stage.exchanges)
            if stage not in found and (feeds or gives):
                found.append(stage)
    return found


def _goes_by_place(stage: Stage) -> bool:
    narrow = (op.work for op in stage.ops if isinstance(op.work, Narrow))
    return any(work.by_place for work in narrow) or any(_is_even(stage, one) for one in stage.exchanges)


def _is_even(stage: Stage, exchange: Exchange) -> bool:
    return isinstance(stage.takers[exchange.taker].routes[exchange.side], Even)
