"""The endpoint of the HTTP benchmark under Ray Serve, one replica: python -m tests.benchmarks.peers.ray_serve PORT."""

from __future__ import annotations

import signal
import sys

import fastapi
import ray
from ray import serve

from tests.benchmarks.http_flow import echo

app = fastapi.FastAPI()
app.post("/echo")(echo)


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, logging_config={"enable_access_log": False})
@serve.ingress(app)
class Echo:
    pass


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(
            http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
        )
        serve.run(Echo.bind())
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
