# `make demo` and `make test` each work alone on a fresh clone: they make .venv and install into it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
BENCH := build/bench
JOBS ?= auto

.PHONY: demo test test-all lint format web bench clean help

help:
	@echo "make demo      compile, check and measure the trained digits model on host, wasm and arm64"
	@echo "make test      fast tests, in parallel"
	@echo "make test-all  slow tests too"
	@echo "make lint      ruff, mypy, import-linter"
	@echo "make web       what a page loads, minified, after a change in runtime/web; needs npx"
	@echo "make bench     all benchmarks (over an hour), then docs/performance.md; installs the peers"

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

web:
	sh runtime/minify.sh runtime/web/min

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

bench: $(BENCH_STAMP)
	$(BIN)/python benchmarks/models.py --sparsity 0 0.3 0.75 0.9 --json $(BENCH)/1_mobilenet_v1.jsonl
	$(BIN)/python benchmarks/models.py --pattern block4 --json $(BENCH)/2_block4.jsonl
	$(BIN)/python benchmarks/models.py --model mobilenet_v2 --sparsity 0.85 --json $(BENCH)/3_mobilenet_v2.jsonl
	$(BIN)/python benchmarks/models.py --model resnet_50 --seconds 8 --json $(BENCH)/4_resnet_50.jsonl
	$(BIN)/python benchmarks/models.py --model resnet_50 --sparsity 0 --targets host --seconds 8 --json $(BENCH)/4_resnet_50_dense.jsonl
	$(BIN)/python benchmarks/models.py --model resnet_18 --sparsity 0 0.75 --json $(BENCH)/4_resnet_18.jsonl
	$(BIN)/python benchmarks/models.py --model densenet_121 --sparsity 0 0.75 --json $(BENCH)/4_densenet_121.jsonl
	$(BIN)/python benchmarks/models.py --model efficientnet_b0 --sparsity 0.85 --json $(BENCH)/4_efficientnet_b0.jsonl
	$(BIN)/python benchmarks/models.py --sparsity 0.3 0.9 --targets wasm-relaxed --device browser --json $(BENCH)/4_chromium.jsonl
	$(BIN)/python benchmarks/curve.py --json $(BENCH)/5_curve.jsonl
	$(BIN)/python benchmarks/curve.py --model resnet_18 --json $(BENCH)/5_curve_resnet_18.jsonl
	$(BIN)/python benchmarks/kernels.py --target host wasm-relaxed --json $(BENCH)/6_kernels.jsonl
	$(BIN)/python benchmarks/limits.py --json $(BENCH)/6_limits.jsonl
	$(BIN)/python benchmarks/fixed_cost.py --json $(BENCH)/7_fixed_cost.jsonl
	$(BIN)/python benchmarks/cost_model.py --json $(BENCH)/8_cost_model.jsonl
	$(BIN)/python benchmarks/reorder.py --json $(BENCH)/9_reorder.jsonl
	$(BIN)/python benchmarks/arm64_cycles.py --json $(BENCH)/10_arm64.jsonl
	$(BIN)/python benchmarks/arm64_cycles.py --target arm64-a55 --json $(BENCH)/11_arm64_a55.jsonl
	$(BIN)/python benchmarks/performance.py $(BENCH) --output docs/performance.md

clean:
	rm -rf $(VENV) demo-out build dist *.egg-info bench.jsonl
