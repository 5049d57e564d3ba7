# VENV=path uses an environment that is there; PYTHON=path chooses the interpreter that makes a new one.
VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed-$(shell cksum < setup.cfg | cut -d ' ' -f 1)

.PHONY: benchmark test fuzz lint types docs install

benchmark: install
	$(RUN) -m benchmarks run --clips 8

test: lint types
	$(RUN) -m pytest

# FUZZ_CASES=1000 runs fewer cases.
fuzz: install
	$(RUN) -m tests.fuzz

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: install
	$(RUN) -m mypy

# build/documentation/site/index.html opens from disk.
docs: install
	$(RUN) tutorials/reference/pages.py build/documentation
	$(RUN) -m zensical build --strict --config-file build/documentation/mkdocs.yml

install: $(STAMP)

$(STAMP):
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[test]'
	touch $@
