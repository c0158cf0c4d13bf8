"""The plan of a Flow: its validated stages that an engine can run."""

from raflow.plan.making import check_names, dry, make_plan
from raflow.plan.stages import Exchange, Op, Plan, Stage

__all__ = ["Exchange", "Op", "Plan", "Stage", "check_names", "dry", "make_plan"]
