# Needs git, make and Python 3.11 or later; everything else goes into .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*/pyproject.toml)
READY := $(VENV)/.ready
EXTRAS := huey==3.5.4 dbos==3.4.0
# Bytecode is kept, or each gateway that a test starts compiles its sources first.
unexport PYTHONDONTWRITEBYTECODE
# tests/suite.py says how many workers there are, and keeps together what shares costly fixtures.
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope

# Plugins' tests are in no package, so pyproject.toml cannot name them; the same as it says of tests/.
AS_TESTS := --strict --allow-untyped-defs --allow-incomplete-defs --allow-untyped-calls --allow-untyped-decorators \
	--no-warn-return-any --no-strict-equality --disable-error-code func-returns-value

.PHONY: help demo test test-all lint audit bench bench-extras torture fuzz clean

help:            ## say what there is
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST)

demo: $(READY)   ## run the gateway with simulated vendors and a simulated ERP; ARGS="--once" compares and exits
	@$(BIN)/gateway demo $(ARGS)

test: $(READY)   ## test every module, within minutes; ARGS="tests/engine" or "-k name" for a part of it, WORKERS=0 for one process
	$(PYTEST) -m "not long" $(ARGS)

test-all: $(READY) ## the same and the long tests: kills, power cuts, faults, boots by the hundred; ARGS="-m long" for these alone
	$(PYTEST) $(ARGS)

lint: $(READY)   ## check style and types, those of the tests as well
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict supply/audit.py
	@for plugin in $(dir $(PLUGINS)); do echo "mypy $$plugin"; \
		$(BIN)/mypy --strict $$plugin/gateway_*/ && $(BIN)/mypy $(AS_TESTS) $$plugin/tests || exit 1; done

audit: $(READY)  ## check the locks against known advisories; ARGS="--advisories FILE_OR_URL" where OSV cannot be reached
	@$(BIN)/python supply/audit.py $(ARGS)

bench: $(READY)  ## measure, as ratios within one run; ARGS="--quick"
	$(BIN)/python -m benchmarks $(ARGS)

bench-extras: $(READY) ## what the benchmark also compares with, into the environment: huey and DBOS
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EXTRAS)

torture: $(READY) ## break it in every way, and count what was lost; ARGS="--seed 7 --budget 600 --only kills"
	$(BIN)/python -m tests.harness.torture $(ARGS)

fuzz: $(READY)   ## hostile bytes for every parser; ARGS="--runs 2000000 --seed 7 --only config.toml"
	$(BIN)/python -m tests.harness.fuzz $(ARGS)

clean:           ## throw away the environment
	rm -rf $(VENV) .tryton .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(READY): pyproject.toml requirements.lock $(PLUGINS)
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or later on the PATH, or PYTHON=/path/to/it"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "make: $(PYTHON) has no venv module; on Debian: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . $(foreach plugin,$(PLUGINS),-e $(dir $(plugin)))
	@touch $@
