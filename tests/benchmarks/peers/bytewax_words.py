"""Bytewax in two processes: python -m tests.benchmarks.peers.bytewax_words wordcount DATA SCALE."""

import subprocess
import sys
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.files import DirSource, FileSink
from bytewax.dataflow import Dataflow

from tests.benchmarks import flow_work as work


def counting(data):
    """Return the dataflow; called by name in each process."""
    flow = Dataflow("words")
    lines = op.input("read", flow, DirSource(Path(data), "words-*.txt"))
    words = op.flat_map("split", lines, str.split)
    counts = op.count_final("count", words, lambda word: word)
    shown = op.map("show", counts, lambda pair: (pair[0], str(pair[1])))
    op.output("write", shown, FileSink(Path(data) / "counts"))
    return flow


def run(data):
    flow = f"tests.benchmarks.peers.bytewax_words:counting({str(data)!r})"
    out = data / "counts"
    try:
        subprocess.run([sys.executable, "-m", "bytewax.testing", flow, "-p", "2"], check=True, capture_output=True)
        counts = [int(line) for line in out.read_text().splitlines()]
    finally:
        out.unlink(missing_ok=True)
    return [len(counts), sum(counts), max(counts)]


if __name__ == "__main__":
    _, data, _ = work.arguments()
    work.contend((lambda: None, lambda: run(data)))
