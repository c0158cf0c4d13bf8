"""Xenna: python -m tests.benchmarks.peers.xenna_images images DATA SCALE.

Its driver hands out each sample, so these are places of row groups rather than records. It takes all CPUs of
the machine by itself, whatever Ray was told, and needs Ray's dashboard. Its workers' start is in its time.
"""

import os

import numpy as np
import pyarrow.parquet as pq
from cosmos_xenna.pipelines import v1 as xenna

from tests.benchmarks import flow_work as work


class Small(xenna.Stage):
    @property
    def required_resources(self):
        return xenna.Resources(cpus=1.0)

    def process_data(self, places):
        bodies = []
        for path, group in places:
            with pq.ParquetFile(path) as file:
                bodies += file.read_row_group(group)["body"].to_pylist()
        return [np.frombuffer(b"".join(map(work.small, bodies)), np.uint8).reshape(len(bodies), -1)]


class Labels(xenna.Stage):
    @property
    def required_resources(self):
        return xenna.Resources(cpus=1.0)

    def setup(self, worker_metadata):
        self._model = work.Model()

    def process_data(self, samples):
        return [self._model.labels(list(images)) for images in samples]


def start():
    """Start Ray as Xenna does itself, whose state calls ask for more than the default allows."""
    names = ("RAY_MAX_LIMIT_FROM_API_SERVER", "RAY_MAX_LIMIT_FROM_DATA_SOURCE")
    os.environ.update(dict.fromkeys(names, "40000"), RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES="1")
    work.start_ray(include_dashboard=True)


def run(data):
    places = []
    for path in work.files(data, "images-*"):
        with pq.ParquetFile(path) as file:
            places += [(path, group) for group in range(file.num_row_groups)]
    config = xenna.PipelineConfig(return_last_stage_outputs=True, cpu_allocation_percentage=1.0)
    stages = [xenna.StageSpec(Small()), xenna.StageSpec(Labels(), num_workers=1)]
    found = xenna.run_pipeline(xenna.PipelineSpec(places, stages, config))
    labels = [label for some in found for label in some]
    return [len(labels), sum(labels)]


if __name__ == "__main__":
    _, data, _ = work.arguments()
    work.contend((start, lambda: run(data)))
