# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint up clean

# torch goes first and alone: a CPU build found by pip is then kept, instead of the CUDA build that others would pull in.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m examples.demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Prefect server, worker and MLflow on loopback, until interrupted.
up: $(VENV)/.installed
	$(BIN)/python -m examples.demo --data-only
	$(BIN)/fute up --store demo/store

clean:
	rm -rf $(VENV) demo store .pytest_cache .mypy_cache .ruff_cache
