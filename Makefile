# Everything from a clean clone: each target sets up what it needs, and says nothing when there is nothing to do.
# make itself ends with 0 or 2; it prints the command's own exit code as "Error N".

PYTHON ?= python3
BIN := .venv/bin

# Modules are compiled, and the assertions of tests rewritten, once and not at every start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup regress test torture mutation bench power calibration lint lock clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## create .venv with vLLM for CPUs, the harness and its tools (PYTHON=...)
	@$(PYTHON) -I harness/setup/bootstrap.py

regress: setup ## does sleep and wake change the answers? (VLLM=0.10.0 RUNTIME=docker MODEL=... ARGS=...)
	@$(BIN)/sleepwake run $(if $(VLLM),--vllm '$(VLLM)') $(if $(RUNTIME),--runtime '$(RUNTIME)') \
		$(if $(MODEL),--model '$(MODEL)') $(ARGS)

# Without a word of the user's the scenarios are not even read: they are tests of engines.
test: ARGS ?= tests
test: setup ## the project's own fast tests (ARGS=...; ARGS='-m cell' for whole cells against the fake)
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

torture: setup ## what must never happen, tried for minutes: kills, damaged files and runs, broken servers (ARGS=--long)
	@$(BIN)/python -m tests.torture --into docs/reliability.md $(ARGS)

mutation: setup ## how many small changes to the checkers their tests notice (half an hour; ARGS=...)
	@$(BIN)/python -m pip install --quiet mutmut==3.8.1
	@$(BIN)/python -I tests/mutation.py $(ARGS)

bench: setup ## how fast a large history is judged; time to verdict beside other procedures (half an hour; ARGS=...)
	@$(BIN)/python -m tests.benchmarks.judging
	@$(BIN)/python -m tests.benchmarks.time_to_verdict $(ARGS)

power: setup ## record healthy and faulty engines, set our verdicts beside other comparators' (hours)
	@$(BIN)/python -m tests.benchmarks.record
	@$(BIN)/python -m tests.benchmarks.power score reports/power --into docs/comparison.md

calibration: setup ## whether the stated error rate holds, on thousands of imagined engines (ARGS=...)
	@$(BIN)/python -m tests.benchmarks.calibration --into docs/calibration.md $(ARGS)

lint: setup ## style, formatting and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

lock: setup ## write requirements.lock anew from what is installed
	@$(BIN)/python -m harness.setup.lock

clean: ## remove .venv and the tools' caches; runs and models stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis mutants
	find harness tests scenarios -name __pycache__ -prune -exec rm -rf {} +
