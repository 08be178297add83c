# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-slow lint docs up clean
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# torch goes first and alone: a CPU build found by pip is then kept, instead of the CUDA build that others would pull in.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV): some 2 GB, of which pip says nothing for some minutes."
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable .
	touch $@

# What only tests and linters need: Dask, Ray, an S3 server, a browser's driver ...
$(VENV)/.dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m examples.demo

# In the order of the folders, where flows come first: else files of few tests come last, and those are the longest.
TWO_AT_A_TIME = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev
	$(TWO_AT_A_TIME) -m "not slow"

# Kills, faults, real servers, a browser; then, with nothing beside them, what measures how soon something happens.
test-slow: $(VENV)/.dev
	$(TWO_AT_A_TIME) -m "slow and not alone"
	$(BIN)/python -m pytest -m alone

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site, in site/. A link that leads nowhere ends it (not with --quiet, which counts no warnings).
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Prefect server, worker, MLflow and pages on loopback, until interrupted.
up: $(VENV)/.installed
	$(BIN)/python -m examples.demo --data-only
	$(BIN)/fute up --store demo/store

clean:
	rm -rf $(VENV) demo store site .pytest_cache .mypy_cache .ruff_cache
