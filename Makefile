# make demo    re-rank the starter collection, from a fresh machine
# make test    lint, types and the test suite
# make bench   pairs/s beside sentence-transformers, and memory over 10 and 100 units
# make model   make the embedded model again

PYTHON ?= python3
VENV   ?= .venv
SHARED ?= ../shared
BIN    := $(VENV)/bin
WORK   := work/model
TEACHER   ?= $(SHARED)/models/ms-marco-minilm-l12
PASSAGES  ?= $(SHARED)/data/dl20/passages.tsv

.PHONY: demo test slow bench model clean

demo: $(VENV)/.core
	$(BIN)/ray-rerank demo

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.dev
	PYTHONPATH=. $(BIN)/python tests/benchmarks/scoring_speed.py
	PYTHONPATH=. $(BIN)/python tests/benchmarks/streaming_memory.py

# The recipe is in README, "The model that ships inside".
model: $(VENV)/.dev
	test -f $(PASSAGES) && test -d $(TEACHER) || { echo "make model: needs PASSAGES and TEACHER, see README"; exit 1; }
	@echo MODEL_RECIPE

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python pyproject.toml .ci/constraints.txt
	$(BIN)/pip install --quiet -c .ci/constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml .ci/constraints.txt
	$(BIN)/pip install --quiet -c .ci/constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.core

clean:
	rm -rf work .mypy_cache .pytest_cache .ruff_cache .hypothesis
