from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

import raflow.errors as module
from raflow.errors import RaflowError, RunFailed


def all_errors(root: type[RaflowError] = RaflowError) -> Iterator[type[RaflowError]]:
    yield root
    for kind in root.__subclasses__():
        yield from all_errors(kind)


@pytest.mark.parametrize("kind", list(all_errors()))
def test_every_error_survives_pickling(kind: type[RaflowError]) -> None:
    again = pickle.loads(pickle.dumps(kind("what happened")))
    assert type(again) is kind
    assert str(again) == "what happened"


def test_a_failed_run_keeps_where_it_failed() -> None:
    error = RunFailed("broken", processor="p", replica="p[0]", split="a.csv", traceback="tb")
    again = pickle.loads(pickle.dumps(error))
    assert (again.processor, again.replica, again.split, again.traceback) == ("p", "p[0]", "a.csv", "tb")


def test_the_tree_in_the_docstring_names_every_error_of_the_module() -> None:
    drawn = module.__doc__ or ""
    own = [kind.__name__ for kind in all_errors() if kind.__module__ == module.__name__]
    assert [name for name in own if name not in drawn] == []
