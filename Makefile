# The verbs of the project; `.ci/run` uses the same. Each makes the environment it needs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo up test check format docs bench

BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2
ARGS ?=
# Images of Python often say that nothing compiled is kept. The tests start hundreds of processes: each would compile all
# it imports, a third of what starting a server takes.
unexport PYTHONDONTWRITEBYTECODE

$(READY): uv.lock pyproject.toml scripts/environment.sh scripts/uv.sh
	@scripts/environment.sh

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## create .venv with tenantry and everything the tests use

demo: $(READY) ## play the scenes on a server of its own and leave it running; EXIT=1 stops it and reports by exit code
	@[ -x /usr/bin/python3 ] || scripts/packages.sh # the first scene runs a Python script
	@$(BIN)/tenantry demo $(if $(EXIT),--exit)

up: $(READY) ## run the server in the foreground
	@$(BIN)/tenantry up

test: $(READY) ## run all tests, installing the Debian packages they need where it may; ARGS=... goes to pytest
	@scripts/packages.sh
	@scripts/oidc-provider.sh
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --max-worker-restart 1 --durations 40 --durations-min 1 $(ARGS)

check: $(READY) ## lint, format, types, contracts, architecture, lock
	@scripts/uv.sh lock --quiet --check
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest --quiet tests/architecture

format: $(READY) ## format, and mend what ruff can
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

docs: $(READY) ## write docs/reference from the code
	@$(BIN)/python -m scripts.reference docs/reference

bench: $(READY) ## measure, interleaved with the baselines, and write bench/results
	@$(BIN)/python -m bench
