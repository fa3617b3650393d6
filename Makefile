# Two commands do everything: `make demo` and `make test`. Each makes its own environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-slow test-gpu bench bench-gpu clean

demo: $(VENV)/.demo  ## the whole method on a real small model, ending with a table
	$(BIN)/drenpa run recipes/demo.yaml

test: $(VENV)/.test  ## lint, types and every fast test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not gpu"

test-slow: $(VENV)/.test  ## what takes minutes: real models, kills, browsers, peers
	$(BIN)/pytest -m "slow" -v

test-gpu: $(VENV)/.test  ## what needs a CUDA device; on one: make CONSTRAINTS= test-gpu
	$(BIN)/pytest -m "gpu" -v

bench: $(VENV)/.test  ## speed and memory against peers, as ratios in one run
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e ".[parity]"
	$(BIN)/python benchmarks/engine.py --json runs/engine.json
	$(BIN)/python benchmarks/dedup.py --json runs/dedup.json
	$(BIN)/python benchmarks/pages.py --json runs/pages.json

bench-gpu: $(VENV)/.test  ## decode, update, critique and adapters on a CUDA device, random weights
	$(BIN)/python benchmarks/engine.py --device cuda --model qwen2.5-0.5b --json runs/engine-gpu-0.5b.json
	$(BIN)/python benchmarks/engine.py --device cuda --model qwen2.5-3b --json runs/engine-gpu-3b.json

# torch is pinned through the constraints file for CPU machines; with a GPU: make CONSTRAINTS= demo
CONSTRAINTS ?= -c constraints.txt

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e .
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e ".[test]"
	touch $@ $(VENV)/.demo

clean:  ## drop the environment and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
