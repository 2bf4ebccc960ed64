# `make demo` and `make test` each work alone on a fresh clone: they make .venv and install into it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= auto

.PHONY: demo test test-all lint format bench clean help

help:
	@echo "make demo      compile, check and measure the trained digits model on host, wasm and arm64"
	@echo "make test      fast tests, in parallel"
	@echo "make test-all  slow tests too"
	@echo "make lint      ruff, mypy, import-linter"
	@echo "make bench     benchmarks against the peers that are installed"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,check]'
	touch $@

demo: $(STAMP)
	$(BIN)/edgesparse demo --output demo-out

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python benchmarks/models.py --json bench.jsonl

clean:
	rm -rf $(VENV) demo-out build dist *.egg-info bench.jsonl
