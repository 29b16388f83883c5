# `make run` and `make test` set up what they need; nothing has to be installed by hand but Python and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-for-tests
DOCS_STAMP := $(VENV)/.installed-for-docs
SPEC ?= specs/quickstart.yaml

.PHONY: help setup run test kills lint bench docs notebook clean

help: ## List what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with what running needs, pinned; does nothing when nothing changed

# The stamps tell what was installed: another project file or constraint installs again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 1; }
	@echo "Setting up $(VENV): two to three minutes and 7 GB, once"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) '.[hyperopt,cmaes]'
	@$(PIP) '.[bohb]' || echo "Sampler bohb is left out: a package that it needs could not be built"
	@touch $@

# Linters, servers and databases that tests and some benchmarks use; not every system has all of them.
$(TEST_STAMP): $(STAMP)
	$(PIP) '.[dev]'
	@touch $@

run: $(STAMP) ## Run the quickstart (or SPEC=specs/other.yaml)
	$(BIN)/orchestrator run $(SPEC)

test: $(TEST_STAMP) ## Run the tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder

kills: $(TEST_STAMP) ## Kill a running experiment twenty times, with all of Ray, and compare it with one left alone (five minutes)
	REAL_KILLS=20 $(BIN)/python -m pytest tests/execution/test_kills.py

lint: $(TEST_STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(TEST_STAMP) ## Run every benchmark in its short form; without --quick a script gives the figures of the documentation
	@for script in $$(grep -l -e --quick bench/*.py); do echo "== $$script"; $(BIN)/python $$script --quick || exit 1; done
	$(BIN)/python bench/trial_overhead.py --workers 2 --quick

# The site's generator, and Jupyter's kernel.
$(DOCS_STAMP): $(STAMP)
	$(PIP) '.[docs]'
	@touch $@

docs: $(DOCS_STAMP) ## Build the documentation's site into build/site; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file docs/generate/mkdocs.yml
	@echo "Open build/site/index.html; its search needs a server: $(BIN)/python -m http.server --directory build/site"

notebook: $(DOCS_STAMP) ## Run the documentation's notebook anew, which trains for a minute
	$(BIN)/python docs/generate/notebook.py docs/notebooks/walkthrough.ipynb

clean: ## Remove the environment and caches; experiments in .orchestrator stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
