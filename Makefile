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
	  /^[a-z][a-z0-9-]*:.*## / {printf "  %-25s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## send a first trace to the embedded receiver and show what arrived
	@$(BIN)/flext-observability demo

##@ Set up
.PHONY: setup install install-dev lock
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

# Every file is the one whose hash was locked; the other interpreters' environments, and
# the wheel that CI installs alone, take the newest releases instead.
LOCKED := $(BIN)/python -m pip install --quiet --require-hashes --requirement

$(VENV)/.dev: pyproject.toml locks/dev.txt | $(BIN)/python
	$(LOCKED) locks/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.runtime $@

$(VENV)/.servers: locks/servers.txt | $(VENV)/.dev
	$(LOCKED) locks/servers.txt
	@touch $@

lock: .venvs/lock/.installed ## take the newest allowed releases into locks/
	@mkdir -p locks
	$(LOCK) --group dev --output-file locks/dev.txt pyproject.toml
	$(LOCK) --group servers --constraints locks/dev.txt --output-file locks/servers.txt

LOCK := .venvs/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
  --generate-hashes --no-annotate --custom-compile-command 'make lock'

.venvs/lock/.installed: | $(BIN)/python
	$(BIN)/python -m venv --clear .venvs/lock
	.venvs/lock/bin/python -m pip install --quiet uv
	@touch $@

##@ Test
.PHONY: test test-main test-interpreters test-unit test-integration test-e2e test-faults test-servers test-fast coverage-html
.PHONY: test-observability test-monitoring test-metrics-e2e test-tracing-distributed test-alerts-integration test-health-monitoring
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

test-observability: $(VENV)/.dev ## the library against the real SDK and a real OTLP server
	$(PYTEST) tests/integration tests/e2e/test_processes.py

test-monitoring: $(VENV)/.dev ## the operations server, and the files of the stack
	$(PYTEST) tests/unit/test_stack_files.py tests/e2e/test_prometheus_stack.py \
	  $(wildcard tests/*/test_server*.py tests/*/test_operations*.py)

test-metrics-e2e: $(VENV)/.dev ## a metric from the call to the collector and to /metrics
	$(PYTEST) tests/e2e/test_metric_path.py

test-tracing-distributed: $(VENV)/.dev ## one trace over two processes
	$(PYTEST) tests/e2e/test_demo.py tests/e2e/test_processes.py

test-alerts-integration: $(VENV)/.dev ## an alert to a stand-in Alertmanager, and to the real one
	$(PYTEST) tests/integration/test_alertmanager.py tests/e2e/test_alertmanager.py

test-health-monitoring: $(VENV)/.dev ## health to the gauge, and to /health
	$(PYTEST) tests/unit/test_health.py tests/e2e/test_health_path.py \
	  $(wildcard tests/*/test_*health_endpoint*.py tests/*/test_server_health*.py)

##@ Quality
.PHONY: validate check lint type-check security format fix audit-pydantic-v2
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

audit-pydantic-v2: $(BIN)/python ## look for what Pydantic 2 gave up
	@$(BIN)/python scripts/audit_pydantic.py

##@ Operations
.PHONY: observability-init observability-validate observability-test metrics-collect traces-start alerts-configure health-monitor monitoring-report
observability-init: $(VENV)/.dev ## write missing configuration files of the stack
	@$(BIN)/flext-observability init --stack

observability-validate: $(VENV)/.dev ## check configuration, rules, dashboards and the collector's file
	@$(BIN)/python scripts/validate_stack.py

observability-test: $(VENV)/.runtime ## send one record per signal to the configured endpoint
	@$(BIN)/flext-observability probe

metrics-collect: $(VENV)/.dev ## print system and application figures
	@$(BIN)/flext-observability figures

traces-start: $(VENV)/.runtime ## send one demo trace, print its id
	@$(BIN)/flext-observability trace

alerts-configure: $(VENV)/.dev ## write the rule files
	@$(BIN)/flext-observability rules

health-monitor: $(VENV)/.dev ## print the overall health, exit 1 when unhealthy
	@$(BIN)/flext-observability health

monitoring-report: $(VENV)/.dev ## ask every panel and rule, write the answers into docs/monitoring.md
	FLEXT_WRITE_MONITORING=1 $(PYTEST) tests/e2e/test_prometheus_stack.py

##@ Stack
.PHONY: monitoring-setup prometheus-start jaeger-start grafana-setup alertmanager-config
monitoring-setup: ## start the whole stack (needs Docker)
	@sh scripts/compose.sh

prometheus-start: ## start Prometheus alone (needs Docker)
	@sh scripts/compose.sh prometheus

jaeger-start: ## start Jaeger alone (needs Docker)
	@sh scripts/compose.sh jaeger

grafana-setup: $(VENV)/.runtime ## load data sources and dashboards into GRAFANA_URL
	@$(BIN)/flext-observability dashboards --upload --with-sources

alertmanager-config: $(BIN)/python ## check Alertmanager's configuration and have it loaded
	@$(BIN)/python scripts/alertmanager_config.py

##@ Measure and ship
.PHONY: bench bench-server bench-quick bench-peers build clean
bench: $(VENV)/.dev ## what everything costs against plain OpenTelemetry, into benchmarks/results.md; the contract's figures
	$(BIN)/python -m benchmarks.report
	$(BIN)/python scripts/cost_figures.py
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

build: $(VENV)/.dev ## wheel and source distribution in dist/, requirements.txt for the image
	$(BIN)/python scripts/export_requirements.py
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean: ## remove what builds and tests leave behind (the virtual environments stay)
	rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
