PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
TOKENIZERS_JS := 0.2.0
WEB := src/eyas/runtime/web

.PHONY: help demo test test-all coverage check docs format vendor clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 10

demo: $(INSTALLED)  ## a teacher, an exam of three students and its page on built-in data (some minutes)
	$(BIN)/eyas demo --out demo

test: $(INSTALLED)  ## the fast tests, under 3 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(INSTALLED)  ## the fast tests, and those that kill, fork, serve and browse
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

coverage: $(INSTALLED)  ## all tests but the slow ones, and how much of src/ they run
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow' --cov --cov-report=term:skip-covered

check: $(INSTALLED)  ## lint, format, directions of imports, types and known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py

docs: $(INSTALLED)  ## the documentation as a site, site/index.html; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(INSTALLED)  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

vendor:  ## fetch the tokenizer library of exported web pages from npm, at the version above
	npm pack --silent @huggingface/tokenizers@$(TOKENIZERS_JS)
	tar -xzOf huggingface-tokenizers-$(TOKENIZERS_JS).tgz package/dist/tokenizers.min.mjs > $(WEB)/tokenizers.min.mjs
	tar -xzOf huggingface-tokenizers-$(TOKENIZERS_JS).tgz package/LICENSE > $(WEB)/tokenizers.LICENSE
	rm huggingface-tokenizers-$(TOKENIZERS_JS).tgz

clean:  ## remove what the other targets made
	rm -rf $(VENV) demo site .coverage*

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[train,demo,serve,dev,docs]'
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # on all cores, where pip uses one
	touch $@
