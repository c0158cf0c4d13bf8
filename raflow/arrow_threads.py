"""Work on pieces of data in as many threads as Arrow may use here: a replica's CPUs, or all without Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import pyarrow as pa

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_threads(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
    """Yield what is made of each piece, in their order.

    Args:
        work: Has to let go of the interpreter's lock, as Arrow does, or nothing is won.
        pieces: Alike in size; each is taken when a thread may soon have it.
    """
    threads, pieces = pa.cpu_count(), iter(pieces)
    first = list(islice(pieces, 2))
    pieces = chain(first, pieces)
    if threads < 2 or len(first) < 2:
        yield from map(work, pieces)
        return
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[Result]] = deque()
        for piece in pieces:
            begun.append(pool.submit(work, piece))
            if len(begun) > threads:  # no more than that waits in memory
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
