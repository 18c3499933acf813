# Short verbs for everything a developer does here. `make` alone lists them.
# Needs nothing but make, a Python >= 3.11 and the package index.

VENV   ?= .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
ifdef PYTHON
export PYTHON
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

##@ Use
.PHONY: help demo
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-z0-9-]*:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## send a first trace to the embedded receiver and show what arrived
	@$(BIN)/flext-observability demo

##@ Set up
.PHONY: setup install install-dev
setup: install-dev ## everything for development, in .venv
	@echo "ready: $$($(BIN)/python --version) in $(VENV)"

install: $(VENV)/.runtime ## the package and what it needs to run
install-dev: $(VENV)/.dev ## the package and all development tools

# The stamps keep installs from repeating until pyproject.toml changes.
$(BIN)/python:
	@python=$$(sh scripts/find-python.sh) && "$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $(VENV)/.runtime $@

$(VENV)/.servers: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group servers
	@touch $@

##@ Test
.PHONY: test test-main test-interpreters test-unit test-integration test-e2e test-faults test-servers test-fast coverage-html
test: test-main test-interpreters ## all tests but the slow ones with the coverage gate, and the unit part on every other Python

test-main: $(VENV)/.dev
	rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report= --cov-fail-under=0
	$(BIN)/python scripts/test_faults.py --cov
	$(BIN)/python -m coverage combine --quiet --append .coverage.faults-*
	$(BIN)/python -m coverage report

test-interpreters: $(VENV)/.dev
	@$(BIN)/python scripts/test_interpreters.py

test-unit: $(VENV)/.dev ## unit tests
	$(PYTEST) tests/unit

test-integration: $(VENV)/.dev ## the real SDK against a real OTLP server over sockets
	$(PYTEST) tests/integration

test-e2e: $(VENV)/.dev ## against programs we did not write
	$(PYTEST) tests/e2e

test-faults: $(VENV)/.dev ## kills, outages, full disks, bad clocks: the slow ones too
	@mkdir -p build && rm -f build/figures.txt
	FLEXT_FIGURES=build/figures.txt $(BIN)/python scripts/test_faults.py -m 'slow or not slow'

test-servers: $(VENV)/.servers ## against gunicorn, uvicorn and celery, which it installs
	$(PYTEST) tests/faults/test_r18_servers.py tests/faults/test_r18_metrics.py

test-fast: $(VENV)/.dev ## all tests on one Python, without coverage
	$(PYTEST) --exitfirst
	$(BIN)/python scripts/test_faults.py

coverage-html: $(VENV)/.dev ## coverage report in htmlcov/
	$(PYTEST) --cov --cov-report= --cov-fail-under=0
	$(BIN)/python scripts/test_faults.py --cov
	$(BIN)/python -m coverage combine --quiet --append .coverage.faults-*
	$(BIN)/python -m coverage html
	@echo "open htmlcov/index.html"

##@ Quality
.PHONY: validate check lint type-check security format fix
validate: check security test ## lint, type-check, security and tests

check: lint type-check ## lint and type-check

lint: $(VENV)/.dev ## Ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

type-check: $(VENV)/.dev ## mypy --strict and pyright strict
	$(BIN)/mypy
	$(BIN)/basedpyright

security: $(VENV)/.dev ## Bandit, and pip-audit when its database can be reached
	$(BIN)/bandit --quiet --recursive src --configfile pyproject.toml
	@$(BIN)/python scripts/audit.py

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format

fix: $(VENV)/.dev ## apply Ruff's safe fixes, then format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

##@ Measure and ship
.PHONY: bench bench-server bench-quick bench-peers build clean
bench: $(VENV)/.dev ## what everything costs against plain OpenTelemetry, into benchmarks/results.md; the contract's figures
	$(BIN)/python -m benchmarks.report
	$(BIN)/python benchmarks/bench_entities.py

bench-quick: $(VENV)/.dev ## see in seconds that the benchmarks work; the figures mean nothing
	$(BIN)/python -m benchmarks.report --quick

bench-peers: $(VENV)/.dev .venvs/peers/.installed ## install Logfire, ddtrace and Sentry apart, and measure their decorators
	$(BIN)/python -m benchmarks.bench_peers

.venvs/peers/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv --clear .venvs/peers
	.venvs/peers/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venvs/peers/bin/python -m pip install --quiet --group peers
	@touch $@

bench-server: $(VENV)/.servers ## /metrics, /health, and the middleware against contrib's
	$(BIN)/python benchmarks/bench_server.py

build: $(VENV)/.dev ## wheel and source distribution in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean: ## remove what builds and tests leave behind (the virtual environments stay)
	rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
