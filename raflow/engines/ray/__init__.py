"""Replicas as actors, steps as tasks of a Ray cluster. Nothing outside this package imports ray."""

import os

# Ray starts workers at niceness 15, where any other load of the machine starves them.
os.environ.setdefault("RAY_worker_niceness", "0")
# A future version's default, and the end of a warning: CUDA_VISIBLE_DEVICES stays as it is for 0 GPUs.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
