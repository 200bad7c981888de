# Two commands of the README: `make demo` and `make test`. Both make a virtual environment of their own first.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = results/demo

.PHONY: demo test clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/dwfbench run --method dwf --depth 3 --results $(DEMO)
	$(BIN)/dwfbench run --method dense,magnitude,random,snip,synflow --distribution erk --points 6 --results $(DEMO)
	$(BIN)/dwfbench compare --results $(DEMO)
	$(BIN)/dwfbench plot --results $(DEMO)
	$(BIN)/dwfbench plot layers --results $(DEMO)
	$(BIN)/dwfbench plot dynamics --results $(DEMO)

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) $(DEMO)
