"""Run a command on a Ray cluster of two nodes, which both are this machine.

    python cluster/two_nodes.py raflow run cluster/spread.py

The command finds the cluster by RAY_ADDRESS. Each node has one CPU, its own object store and its own
workers; the disk is shared. To take a node away, end the process whose id is printed for it.
"""

from __future__ import annotations

import os
import subprocess
import sys

from ray.cluster_utils import Cluster


def main(command: list[str]) -> int:
    """Start the nodes, run the command, stop the nodes; returns the command's exit code."""
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False})
    try:
        nodes = [cluster.head_node, cluster.add_node()]
        for node in nodes:
            raylet = node.all_processes["raylet"][0].process
            print(f"node {node.node_id} process {raylet.pid}", flush=True)
        return subprocess.call(command, env={**os.environ, "RAY_ADDRESS": cluster.address})
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
