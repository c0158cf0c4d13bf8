# Each target does its own set-up; `make` alone prints them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .venv-bench

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: help setup demo test faults check fix bench clean

help:            ## print the targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(READY)  ## make the virtual environment
# Compiled, as where Python may not write bytecode each worker would compile all of Ray anew.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]'
	@touch $(READY)

demo: $(READY)   ## run the main job on 336,776 real flights, on an embedded Ray
	$(BIN)/raflow run examples/flights.py
	$(BIN)/python examples/show.py demo-output/flights

test: check      ## lint, types, then all tests but those of `faults`
	$(PYTEST) --ignore tests/faults --ignore tests/cluster

faults: $(READY) ## tests that kill drivers, replicas and nodes, or need a cluster of two nodes
	$(PYTEST) tests/faults tests/cluster

check: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(READY)    ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench:           ## measure against the peers, side by side, in an environment of its own (Daft wants an older pyarrow)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade pip uv
	$(BENCH)/bin/uv pip install --quiet --compile-bytecode --python $(BENCH)/bin/python -e '.[bench]'
	$(BENCH)/bin/python tests/benchmarks/run.py

clean:           ## remove the environment and caches
	rm -rf $(VENV) $(BENCH) .mypy_cache .ruff_cache .pytest_cache dist build demo-output
