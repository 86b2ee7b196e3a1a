# `make` alone lists the commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed

SECONDS ?= 120
TESTS ?=

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench fuzz clean

help: ## List the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: $(RUN) ## Start the service on http://localhost:3000 with a PostgreSQL of its own
	@exec $(BIN)/python run.py

test: $(DEV) ## Run the tests (TESTS=tests/http for some of them)
	@$(BIN)/python -m pytest $(TESTS)

lint: $(DEV) ## Check lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(DEV) ## Put the code into the one format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

bench: $(DEV) ## Measure the service against a bare aiohttp handler (needs wrk)
	@$(BIN)/python -m bench

fuzz: $(DEV) ## Try the service with whatever its document allows (SECONDS=120)
	@$(BIN)/python -m tests.fuzz $(SECONDS)

clean: ## Remove the virtual environment and caches; the data in .data stays
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; PYTHON=... names one.")'
	@echo "Creating the virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(RUN): setup.cfg requirements.txt | $(BIN)/python
	@echo "Installing the dependencies ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[embedded]'
	@touch $@

$(DEV): setup.cfg requirements.txt | $(BIN)/python
	@echo "Installing the dependencies ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[embedded,test,lint]'
	@touch $@ $(RUN)
