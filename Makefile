# Everything needs Python 3.11 or newer, make and git; `gen` and `bench` say what more they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
RESOLVE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock"
COMPILE := $(RESOLVE) pyproject.toml --extra memory

.DEFAULT_GOAL := help
# Where nothing may be kept, every process compiles pytest's plugins and all tests anew: 8 s each.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help up test test-busy test-hosts test-kubernetes timing lint style types imports protos fmt gen gen-check docs bench bench-memory audit lock clean

help: ## Show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: .venv/run.stamp ## Start everything on this machine; Ctrl-C stops it
	@$(BIN)/molecule-grpc up

# Each of pytest's processes has servers of its own. Tests wait for them, so there are two processes
# more than there are cores: with one more, two cores were used by 69 %. Memory bounds them at eight.
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
PYTEST_WORKERS ?= -n $(shell n=$$(($(CORES) + 2)); echo $$((n < 8 ? n : 8))) --dist worksteal
BEGAN := $(shell date +%s)

test: .venv/dev.stamp ## Check everything; ARGS go to pytest
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(CHECKS) gen-check
	@$(BIN)/pytest $(PYTEST_WORKERS) $(ARGS); code=$$?; \
	echo "make test: $$(($$(date +%s) - $(BEGAN))) seconds"; exit $$code

test-busy: .venv/dev.stamp ## The same while every core is kept busy
	@$(BIN)/python -m tools.busy make test

# Where the machine permits it, `make test` has the handlers inside Envoy: these tests are about processes,
# the port and bodies of any size, and run once more on workers behind Envoy.
OF_HOSTS := admin dispatch_faults http_clients inbox_faults lifecycle outgoing_budgets process_faults sizes tls
test-hosts: .venv/dev.stamp ## The tests that concern hosts, on workers behind Envoy
	MOLECULE_HOST_MODE=grpc $(BIN)/pytest $(PYTEST_WORKERS) $(OF_HOSTS:%=tests/e2e/test_%.py)

# The cluster's programs are built from their modules once: 8 to 11 CPU minutes.
test-kubernetes: .venv/dev.stamp ## Workspaces on a real cluster; needs Go, root, etcd, containerd and CNI plugins
	tools/kubernetes/build.sh
	TEST_KUBERNETES=1 $(BIN)/pytest tests/kubernetes tests/integration/test_backend_contract.py $(ARGS)

timing: .venv/dev.stamp ## Check that the time of a refusal tells nothing: 2,000 pairs of each kind
	TEST_LONG=1 $(BIN)/pytest tests/e2e/test_timing.py -s

# The slowest first: `make test` runs two of them at a time.
CHECKS := types style imports protos
lint: $(CHECKS) ## Check style, types, import rules and protos

types: .venv/dev.stamp
	$(BIN)/mypy

style: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

imports: .venv/dev.stamp
	$(BIN)/lint-imports

protos: .venv/dev.stamp
	$(BIN)/buf lint

fmt: .venv/dev.stamp ## Format, and repair what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gen: .venv/dev.stamp ## Generate gen/ from the protos; needs Node and Go
	tools/gen.sh

# Without Node or Go pytest still compares the Python, OpenAPI and descriptors byte by byte, and the
# descriptors inside gen/ts and gen/go.
gen-check: .venv/dev.stamp ## Fail when gen/ is not what the protos say
	@if { command -v npm && command -v go; } >/dev/null; then \
		tools/gen.sh check; \
	else \
		echo "gen-check: SKIPPED for gen/ts and gen/go, which need Node and Go"; \
	fi

docs: .venv/dev.stamp ## Write the generated pages of docs/ anew
	$(BIN)/python -m tools.pages

bench: .venv/dev.stamp ## Measure; prints ratios to floors of the same run
	$(BIN)/python -m benchmarks

bench-memory: .venv/dev.stamp ## Measure how well memories are found; FORM=full asks all sections
	$(BIN)/python -m benchmarks.memory --form $(or $(FORM),small) --strict

audit: .venv/dev.stamp ## Ask the OSV database for known vulnerabilities of every locked version
	@$(BIN)/python -m tools.audit

lock: .venv/dev.stamp ## Resolve the requirements anew; UPGRADE=1 takes newer versions
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group build --output-file requirements/run.lock
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group build --group dev \
		--constraints requirements/run.lock --output-file requirements/dev.lock
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group peers \
		--constraints requirements/dev.lock --output-file requirements/peers.lock
	$(RESOLVE) requirements/memory-peers.in $(if $(UPGRADE),--upgrade) \
		--output-file requirements/memory-peers.lock

clean: ## Remove the virtual environment and caches; never data/
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { echo "Python's venv module is needed; Debian: apt-get install python3-venv"; exit 1; }

# dev.lock holds run.lock's versions and more, so either order leaves the same environment.
.venv/run.stamp: requirements/run.lock pyproject.toml | $(BIN)/pip
	@echo "Setting up .venv (once) ..."
	@$(PIP) install --require-hashes --requirement $<
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.lock .venv/run.stamp
	@$(PIP) install --require-hashes --requirement $<
	@touch $@
