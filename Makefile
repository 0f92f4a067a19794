# Everything is made with `make TARGET`; `make help` lists the targets. Without make, the
# recipes below are plain commands that can be typed as they stand.
#
#   PYTHON  the Python (>= 3.11) that makes the environment
#   VENV    the folder of the environment; made once, renewed when the pins change
#   ARGS    more arguments for the command behind a target, e.g. make test ARGS="-k feeder"

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

PY := "$(VENV)/bin/python"
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
# both cores, where pytest-xdist is installed
WORKERS = $$($(PY) -c "import xdist; print('-n auto --dist loadfile')" 2>/dev/null || true)
PINS := pyproject.toml constraints.txt
CORE := $(VENV)/.made-core
TEST := $(VENV)/.made-test
DOCS := $(VENV)/.made-docs
BENCH := $(VENV)/.made-bench
FRESH := build/constraints

.DEFAULT_GOAL := help
.PHONY: help run test nightly lint notebooks benchmarks docs constraints clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

run: $(CORE)  ## the whole market on the IEEE 33-bus feeder
	$(PY) -m hiermarket run ieee33 $(ARGS)

test: $(TEST)  ## all tests but the nightly ones
	$(PY) -m pytest -m "not nightly" $(WORKERS) $(ARGS)

nightly: $(TEST)  ## the slow tests only
	$(PY) -m pytest -m nightly $(WORKERS) $(ARGS)

lint: $(TEST)  ## style and types
	@code=0; for check in "ruff check ." "ruff format --check ." "mypy" "mypy --strict --package benchmarks"; do \
	  echo "$$check"; $(PY) -m $$check || code=1; done; exit $$code

notebooks: $(TEST)  ## run every notebook
	$(PY) -m pytest tests/project/test_notebooks.py $(ARGS)

benchmarks: $(BENCH)  ## time and size of every registered case
	$(PY) -m benchmarks $(ARGS)

docs: $(DOCS)  ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet $(ARGS)

constraints:  ## renew constraints.txt with the newest versions of everything
	rm -rf $(FRESH)
	"$(PYTHON)" -m venv $(FRESH)
	$(FRESH)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --editable '.[test,docs,bench]'
	sed -n '/^#/p' constraints.txt > $(FRESH).txt
	$(FRESH)/bin/python -m pip freeze --exclude-editable --disable-pip-version-check | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' >> $(FRESH).txt
	mv $(FRESH).txt constraints.txt
	rm -rf $(FRESH)

clean:  ## remove everything that can be made again
	rm -rf "$(VENV)" build dist site *.egg-info .mypy_cache .ruff_cache .hypothesis benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that a developer made by hand is kept and completed.
define make_venv
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	  echo "hiermarket needs Python 3.11 or later. Try: make $@ PYTHON=python3.12" >&2; exit 1; }
	@test -x "$(VENV)/bin/python" || "$(PYTHON)" -c "import ensurepip, venv" 2>/dev/null || { \
	  echo "This Python cannot make environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x "$(VENV)/bin/python" || "$(PYTHON)" -m venv "$(VENV)"
endef

$(CORE): $(PINS)
	$(make_venv)
	$(INSTALL) .
	@touch "$@"

$(TEST): $(PINS)
	$(make_venv)
	$(INSTALL) '.[test]'
	@touch "$@" "$(CORE)"

$(DOCS): $(PINS)
	$(make_venv)
	$(INSTALL) '.[docs]'
	@touch "$@" "$(CORE)"

$(BENCH): $(PINS)
	$(make_venv)
	$(INSTALL) '.[test,bench]'
	@touch "$@" "$(TEST)" "$(CORE)"
