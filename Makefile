# The commands of this project. Each makes .venv first when it must.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test tests drills bench lint clean

demo: $(VENV)/ready  ## the whole job on a small rendered corpus, in runs/demo
	@$(BIN)/irmas demo

test: lint tests  ## lint, types and tests

tests: $(VENV)/ready
	@$(BIN)/python -m pytest --numprocesses 2

drills: $(VENV)/ready  ## the tests that kill workers and nodes at length, and are left out of test
	@$(BIN)/python -m pytest -m drill

bench: $(VENV)/ready  ## side-by-side measurements, hours; two of them need recordings and only say so
	@for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

lint: $(VENV)/ready
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary

# Written last, so that an interrupted installation is done again.
$(VENV)/ready: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (some 6 GB, a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check \
		--constraint constraints.txt uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--constraint constraints.txt --editable '.[demo,dev,export,postgres,review,serve]'
	@touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
