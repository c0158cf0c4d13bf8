"""A replica that is killed has written what it acknowledged, and readers find it after the next start."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.http.hosts import serving

PROGRAM = """
import socket, sys
import uvicorn
from raflow import Flow
from raflow.connectors.files import JsonLinesFiles

app = Flow()

@app.collector("/collect", sink=JsonLinesFiles(sys.argv[1], if_exists="append"))
async def collect(record: dict) -> dict:
    return record

if __name__ == "__main__":
    server = uvicorn.Server(uvicorn.Config(app.asgi(), log_level="error"))
    server.run([socket.socket(fileno=int(sys.argv[2]))])
"""


async def until_it_ends(url: str, process: subprocess.Popen[bytes]) -> list[int]:
    """Send numbers until the server is gone, which is killed on the way; return those that were acknowledged."""
    acked: list[int] = []

    async def ask(client: httpx.AsyncClient, first: int) -> None:
        for n in range(first, 100_000, 8):
            try:
                reply = await client.post("/collect", json={"n": n})
            except httpx.TransportError:
                return
            assert reply.status_code == 200
            acked.append(n)
            if len(acked) == 100:
                process.send_signal(signal.SIGKILL)

    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        await asyncio.gather(*(ask(client, first) for first in range(8)))
    return acked


def test_a_killed_replica_has_written_what_it_acknowledged(tmp_path: Path) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "events"
    program.write_text(PROGRAM)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        line = [sys.executable, str(program), str(folder), str(number)]
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        process = subprocess.Popen(line, pass_fds=[number])
    try:
        acked = asyncio.run(until_it_ends(url, process))
    finally:
        process.kill()
        process.wait()
    assert len(acked) >= 100
    assert [path for path in folder.iterdir() if not path.name.startswith(".")] == []
    with serving(again(folder)) as client:
        assert client.get("/readyz").status_code == 200  # it has started
        rows = [json.loads(line)["n"] for path in folder.glob("part-*.jsonl") for line in path.read_text().splitlines()]
    assert set(acked) <= set(rows)
    assert len(rows) == len(set(rows)) <= len(acked) + 8


def again(folder: Path) -> object:
    from raflow import Flow
    from raflow.connectors.files import JsonLinesFiles

    app = Flow()

    @app.collector("/collect", sink=JsonLinesFiles(folder, if_exists="append"))
    async def collect(record: dict[str, int]) -> dict[str, int]:
        return record

    return app
