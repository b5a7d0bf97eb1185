# Every command of the project. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin

# The first Python that we support, unless PYTHON=... names one; an existing .venv keeps the one it has.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
BOOTSTRAP_FLAGS := --any-python
endif

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^## / { printf "\n%s\n", substr($$0, 4) } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Run

.PHONY: install up down status
install: ## Prepare .venv from uv.lock (PYTHON=... chooses the interpreter)
	@test -n "$(PYTHON)" || { echo "Perdure needs Python 3.11, 3.12 or 3.13 on the PATH, or PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" deploy/local/bootstrap.py $(BOOTSTRAP_FLAGS)

up: install ## Start everything and serve until Ctrl-C (ARGS="--port-base 7500" ...)
	@exec $(BIN)/perdure up $(ARGS)

down: install ## Stop everything in order
	@$(BIN)/perdure down

status: install ## Show each part: pid, port, memory, health
	@$(BIN)/perdure status

## Check

.PHONY: test check test-packages format chaos bench
# The tests start our programs hundreds of times: compiled once, whatever the environment says of bytecode, each start
# costs one second of processor time instead of five.
test: export PYTHONDONTWRITEBYTECODE :=
# What kills processes and looks at the clock comes last and has the machine to itself.
test: install test-packages check ## Everything that CI does
	$(BIN)/pytest -m "not chaos" -n logical --maxprocesses=4 --dist=loadfile
	$(BIN)/pytest -m chaos

check: install ## Formatting, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

test-packages: install # What only tests need: a browser, Node.js, an OpenID provider
	@.ci/test-packages

format: install ## Format the code and apply safe fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

chaos: install ## The long chaos set: at least a hundred kills
	$(BIN)/python -m tests.chaos.storm

bench: install ## The benchmarks: prints a table, writes bench/results.json
	$(BIN)/python -m bench.main

## Tidy

.PHONY: clean
clean: ## Remove caches (.venv and .perdure stay)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
