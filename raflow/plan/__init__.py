"""The plan of a Flow: its validated stages that an engine can run."""

from raflow.plan.making import dry, make_plan
from raflow.plan.stages import Exchange, Op, Plan, Stage

__all__ = ["Exchange", "Op", "Plan", "Stage", "dry", "make_plan"]
