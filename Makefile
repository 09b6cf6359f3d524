# The project's only command vocabulary; people and CI use the same words. `make help` lists them.
# Every target does its own set-up and needs only Python, pip and make on the machine.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

# The stamp's name carries the interpreter's version and the folder's place, so that a change of either is noticed: an
# environment that was copied along with its folder would otherwise go on running the code of the old place.
STAMP := $(VENV)/.installed-$(shell $(PYTHON) -c \
	'import os, sys, zlib; print("%d.%d.%d-%08x" % (*sys.version_info[:3], zlib.crc32(os.getcwd().encode())))')

# What stands in ARGS is handed on to pytest: `make test ARGS="tests/unit -k frame -x"`.
PYTEST := $(RUN) -m pytest $(ARGS)

# An OpenTelemetry Collector to test against: the one that was named, or the one that `make collector` built.
OTELCOL_BIN ?= $(lastword $(sort $(wildcard $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/comet-otel/otelcol-*/dist/otelcol)))
export OTELCOL_BIN

.DEFAULT_GOAL := help
.PHONY: help all demo test quick check format crash property fuzz bench build collector system-tools javascript-clients \
	venv clean

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

all: check test demo build ## Everything a change must pass: check, test, demo, build.

demo: $(STAMP) ## Show an outage, a kill -9 and the recovery from both; non-zero exit if anything was lost.
	$(RUN) -m demo

test: $(STAMP) ## Run the tests: unit, property, architecture, golden, integration and short crash tests.
	$(PYTEST)

quick: $(STAMP) ## Run only the tests that are over in a moment; for use while writing.
	$(PYTEST) -m "not bench and not crash and not integration and not slow"

check: $(STAMP) ## Check formatting, lint and types; changes nothing.
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: $(STAMP) ## Format the code and apply the linter's safe corrections.
	$(RUN) -m ruff check --fix --exit-zero .
	$(RUN) -m ruff format .

# The long campaign may rightly outlast the test-suite's own time limit, which is there to catch a hang.
crash: $(STAMP) ## Run the long crash campaigns: kill -9 at random instants and every failpoint; power cuts anywhere.
	COMET_CRASH_FULL=1 $(PYTEST) -o faulthandler_timeout=7200 tests/crash

property: $(STAMP) ## Run the property tests with the deep profile (thousands of examples).
	HYPOTHESIS_PROFILE=deep $(PYTEST) -o faulthandler_timeout=7200 tests/property

fuzz: $(STAMP) ## Send 200,000 mutated requests to the receiver and compare its answers with its log.
	$(RUN) -m tests.fuzz

bench: $(STAMP) ## Measure appends, reads and syncs against LMDB and os.pwrite; prints the tables.
	$(RUN) -m benchmarks

build: $(STAMP) ## Build the sdist and the wheel into dist/.
	$(RUN) -m build --outdir dist

collector: ## Build an OpenTelemetry Collector for the tests, once per machine; needs the Go toolchain.
	@sh scripts/build-collector.sh

system-tools: ## Install the mkfs programs that some tests use, where that is possible; never fails.
	@sh scripts/install-test-tools.sh

javascript-clients: ## Install OpenTelemetry's JavaScript SDK, a client of the receiver's tests, into a cache; never fails.
	@sh scripts/install-javascript-clients.sh

venv: $(STAMP) ## Only set up the virtual environment.

# A missing stamp means: never finished, other Python, or moved; then it starts afresh. An existing one that is older
# than pyproject.toml is brought up to date in place. Where the system's Python comes without ensurepip (Debian without
# python3-venv), its own pip puts one into the empty environment.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "comet-otel needs Python 3.10 or newer")'
	@[ -e $@ ] || $(PYTHON) -m venv --clear $(VENV) || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(RUN) install --quiet pip; }
	@echo "setting up $(VENV) (once, and again when pyproject.toml changes)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $@

clean: ## Remove everything that the other targets made.
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
