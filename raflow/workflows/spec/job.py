"""What a job of `RayJobs` does: `python -m raflow.workflows.spec.job MODULE` runs the app that the module tells of."""

from __future__ import annotations

import json
import sys
import traceback
from importlib import resources

from raflow.workflows.spec.apps import AppRun
from raflow.workflows.spec.client import LocalClient
from raflow.workflows.spec.ray_jobs import INPUT, MARK


def main(module: str) -> int:
    """Run the app; returns the exit code of the job."""
    asked = json.loads(resources.files(module).joinpath(INPUT).read_text())
    try:
        done = LocalClient().run(AppRun(**asked, emit_live_logs=True))
        failed, line = done.error is not None, json.dumps({"output": done.output, "error": done.error})
    except Exception as error:
        traceback.print_exc()
        failed, line = True, json.dumps({"output": None, "error": f"{type(error).__name__}: {error}"})
    print(MARK + line, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
