# One command for each task. `make demo` and `make test` need Python 3.11 and nothing else,
# `make test-interop` Node.js 20 and npm too.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
CLIENT := tests/interop/js
SECONDS ?= 600
INPUTS ?= 0

.PHONY: demo test test-slow test-interop lint bench fuzz simulate vectors clean

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(RUN)/rhizome demo

test: $(VENV)/installed
	$(RUN)/python -m pytest

test-slow: $(VENV)/installed
	$(RUN)/python -m pytest -m slow

test-interop: $(VENV)/installed $(CLIENT)/node_modules/installed
	$(RUN)/python -m pytest -m interop

$(CLIENT)/node_modules/installed: $(CLIENT)/package.json $(CLIENT)/package-lock.json
	cd $(CLIENT) && npm install --no-audit --no-fund
	touch $@

lint: $(VENV)/installed
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

bench: $(VENV)/installed
	$(RUN)/python -m tests.benchmarks.bench

fuzz: $(VENV)/installed
	$(RUN)/python -m tests.fuzzing.fuzz --seconds $(SECONDS) --inputs $(INPUTS)
	$(RUN)/python -m tests.fuzzing.language

simulate: $(VENV)/installed
	for file in simulations/*.py; do $(RUN)/rhizome simulate $$file || exit 1; echo; done

vectors: $(VENV)/installed
	$(RUN)/python -m tests.protocols.make_vectors

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
