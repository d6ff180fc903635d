PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: help demo test check format clean

help:  ## what there is to make
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 10

demo: $(INSTALLED)  ## a teacher, an exam of three students and its page on built-in data (some minutes)
	$(BIN)/eyas demo --out demo

test: $(INSTALLED)  ## the fast tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(INSTALLED)  ## lint, format, directions of imports, types and known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py

format: $(INSTALLED)  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the other targets made
	rm -rf $(VENV) demo

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,demo,serve,dev]'
	touch $@
