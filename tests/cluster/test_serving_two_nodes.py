"""HTTP on a cluster of two nodes: both answer, and what is left goes on when one dies."""

from __future__ import annotations

import sys

import pytest

from tests.cluster.conftest import Cluster, start
from tests.runtime.serving.clients import Clients
from tests.runtime.serving.conftest import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]  # Ray notices a dead node late

PROGRAM = """
from raflow import engines
from raflow.options import Resources
from raflow.runtime.serving.address import Address
from raflow.runtime.serving.serving import Serving
from tests.runtime.serving.conftest import scaling, serving_options
from fastapi import FastAPI


def make():
    import ray

    node, app = ray.get_runtime_context().get_node_id(), FastAPI()
    app.get("/who")(lambda: {"who": node})
    return app


engine = engines.make("ray")
engine.start()
options = serving_options(needs=Resources(num_cpus=1), scaling=scaling(2, 2))
serving = Serving("api", engine, make, Address(), options)
serving.start()
serving.wait_ready(120)
print(serving.address, flush=True)
serving.wait()
"""


def test_both_nodes_answer_and_one_goes_on_alone(cluster: Cluster) -> None:
    with start(sys.executable, "-c", PROGRAM, env=cluster.env) as program:
        try:
            assert program.stdout
            address = next(line for line in program.stdout if line.startswith("127.0.0.1:")).strip()
            check(address, cluster)
        finally:
            program.kill()


def check(address: str, cluster: Cluster) -> None:
    with Clients(f"http://{address}/who") as clients:
        until(lambda: len(clients.answered_by) == 2)
        cluster.kill_second()
        until(lambda: any(client.lost or client.raced for client in clients.all))
        before = clients.answered_by.total()
        until(lambda: clients.answered_by.total() > before + 100)
    assert max(len(client.lost) + client.raced for client in clients.all) <= 1, "those on the dead node"
