"""The process around replicas, on a real Ray."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest

from raflow.engines.ray.replicas import RayEngine
from raflow.options import Resources


class Counter:
    """Stands in for a replica: made with its name, like one."""

    def __init__(self, name: str, own_process: bool) -> None:
        del name, own_process
        self.calls = 0

    def call(self) -> tuple[int, int]:
        self.calls += 1
        return os.getpid(), self.calls

    def threads(self) -> int:
        return pa.cpu_count()


def test_a_late_call_of_a_replica_is_no_call_of_the_one_that_has_its_process(ray_session: None) -> None:
    engine, needs = RayEngine(), Resources(num_cpus=0.25)
    engine.start()
    packed = engine.pack(Counter)
    try:
        first = engine.spawn("first", packed, needs)
        process, _ = first.call("call").result(60)
        first.release()
        second = engine.spawn("second", packed, needs)
        assert second.call("call").result(60) == (process, 1)
        with pytest.raises(Exception, match="the replica for which this call was meant has ended"):
            first.call("call").result(60)
        assert second.call("call").result(60) == (process, 2)
        second.release()
    finally:
        engine.close()


@pytest.mark.parametrize(("num_cpus", "threads"), [(0, 1), (0.25, 1), (2, 2)])
def test_arrow_has_as_many_threads_as_a_replica_has_cpus(ray_session: None, num_cpus: float, threads: int) -> None:
    engine = RayEngine()
    engine.start()
    try:
        replica = engine.spawn("one", engine.pack(Counter), Resources(num_cpus=num_cpus))
        assert replica.call("threads").result(60) == threads
        replica.release()
    finally:
        engine.close()
