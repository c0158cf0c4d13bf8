"""Where code runs; a module beside the target, which travels with it to every node."""

import os

import ray


def here() -> dict[str, str | int]:
    """Return the node, the process, and the folder that this module was imported from."""
    node = ray.get_runtime_context().get_node_id()
    return {"node": node, "process": os.getpid(), "code": os.path.dirname(os.path.abspath(__file__))}
