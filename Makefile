# Everything a person does here, by name. `make` alone lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FUZZ_SECONDS ?= 600

.DEFAULT_GOAL := help
DETERMINISTIC := tests/policies tests/tenancy tests/tiers tests/gateway tests/delivery tests/state tests/orders tests/api tests/observe tests/testing \
	tests/config tests/examples tests/bench tests/workers tests/test_exports.py tests/test_rules_purity.py \
	tests/database/test_pool.py tests/database/test_migration_rules.py

.PHONY: help serve test quick check format bench bench-http bench-gateway bench-delivery overhead mutation fuzz soak clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One stamp an extra, so that serving does not wait for the tools of tests and benchmarks.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Say which: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: EXTRA =
$(VENV)/.dev: EXTRA = [dev]
$(VENV)/.bench: EXTRA = [bench]
$(VENV)/.run $(VENV)/.dev $(VENV)/.bench: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) what constraints.txt pins ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.$(EXTRA)'
	@touch $@

serve: $(VENV)/.run ## run the server on 127.0.0.1:8080, with a PostgreSQL of its own unless DATABASE_URL is set
	@exec $(BIN)/bulkhead-trio serve

test: $(VENV)/.dev ## every test, against a real PostgreSQL that the tests start
	@$(BIN)/python -m pytest

quick: $(VENV)/.dev ## the deterministic tests: virtual time, no network, no database
	@$(BIN)/python -m pytest -n 2 $(DETERMINISTIC)

check: $(VENV)/.dev ## the gate: format, lint, types, import rules, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

format: $(VENV)/.dev ## rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.bench ## the isolation benchmark: a table, JSON and pictures in bench/results/
	@$(BIN)/python -m bench.isolation

bench-http: $(VENV)/.bench ## the speed of the HTTP data plane beside its peers; needs wrk, and Node.js for some of them
	@$(BIN)/python -m bench.http

bench-gateway: $(VENV)/.bench ## the gateway as a proxy beside its peers; needs wrk, and Node.js, nginx, haproxy for some of them
	@$(BIN)/python -m bench.gateway

bench-delivery: $(VENV)/.bench ## events and webhooks from end to end, and what a claim costs with a million rows waiting
	@$(BIN)/python -m bench.delivery

overhead: $(VENV)/.bench ## what each policy costs, beside its peers: a table and JSON in bench/results/
	@$(BIN)/python -m bench.overhead

mutation: $(VENV)/.dev ## flip every comparison in the rules, and see that a test fails
	@$(BIN)/python -m bench.mutation

fuzz: $(VENV)/.dev ## fuzz the HTTP core for FUZZ_SECONDS (600); guided by coverage where atheris is installed
	@$(BIN)/python -m tests.http.engine.fuzz $(FUZZ_SECONDS)

soak: $(VENV)/.bench ## flat memory over 100,000 requests; nothing left after 10,000 of which a third are cancelled
	@$(BIN)/python -m bench.soak memory
	@$(BIN)/python -m bench.soak cancel

clean: ## remove what the targets above made (the data directory too)
	rm -rf $(VENV) .bulkhead .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache bench/results dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
