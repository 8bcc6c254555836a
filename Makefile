# `make run` and `make test` need only python3, pip, git and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# The tests and the benchmark start the program again and again: without its bytecode each start compiles it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-long check format bench bench-store bench-trees bench-timeline bench-sync docs clean lock

run: $(VENV)/.run
	$(BIN)/holdall serve $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

test-long: $(VENV)/.dev
	HOLDALL_TEST_LONG=1 $(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-store bench-trees bench-timeline bench-sync

bench-store: $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

bench-trees: $(VENV)/.dev
	$(BIN)/python -m bench.trees $(ARGS)

bench-timeline: $(VENV)/.dev
	$(BIN)/python -m bench.timeline $(ARGS)

bench-sync: $(VENV)/.dev
	$(BIN)/python -m bench.sync $(ARGS)

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.run

# Rewrites constraints.txt from the newest versions that pyproject.toml allows.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev]'
	.venv-lock/bin/python -m pip freeze --exclude holdall > constraints.txt
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
