# Everything a newcomer needs is Python 3.11 and make. The first target that needs it makes .venv from the
# hashed lock; later ones find it there. ARGS reaches the program: make demo ARGS="--once --json"

PYTHON ?= python3
UV ?= uv
ARGS ?=
# Tests that run at a time; each process has a server of its own. make test PROCESSES=0 runs them one by one.
PROCESSES ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := domain ledger projections retention audit api
LOCK := $(UV) pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links --quiet

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DEFAULT_GOAL := help
.PHONY: help install demo serve test soak bench lint fmt lock clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

install: $(STAMP) ## Make .venv from the hashed lock (the other targets do it when needed)
	@:

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lethe needs Python 3.11 or newer. Name one: make PYTHON=python3.11")'
	@echo "Installing the locked requirements into $(VENV), once." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check --only-binary :all: --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $@

demo: $(STAMP) ## Watch Lethe do its whole job (ARGS="--once --json" without a terminal)
	@$(BIN)/lethe demo $(ARGS)

serve: $(STAMP) ## Serve the API with its docs page
	@$(BIN)/lethe serve $(ARGS)

test: $(STAMP) ## Run the tests
	@$(BIN)/python -m pytest -q -n $(PROCESSES) $(ARGS)

soak: $(STAMP) ## Run the long tests and the long parts of the bench
	@$(BIN)/python -m pytest -q -m soak --timeout=14400 $(ARGS)
	@$(BIN)/python -m bench --soak

bench: $(STAMP) ## Measure against the budgets of the design (ARGS=--json for machines)
	@$(BIN)/python -m bench $(ARGS)

lint: $(STAMP) ## Check style, types and who imports whom
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted. Run: make fmt" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache $(if $(VERBOSE),,> $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log >&2; exit 1; })

fmt: $(STAMP) ## Format the code
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

lock: ## Renew both locks (needs uv)
	@command -v $(UV) > /dev/null || { echo "make lock needs uv. Install it: pip install uv" >&2; exit 1; }
	@$(LOCK) --upgrade --output-file requirements.lock
	@$(LOCK) --upgrade --group dev --constraint requirements.lock --output-file requirements-dev.lock
	@! grep -n '://' requirements.lock requirements-dev.lock

clean: ## Remove what make made
	@rm -rf $(VENV) lethe.egg-info build .mypy_cache .pytest_cache .ruff_cache .hypothesis
