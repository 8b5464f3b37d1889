# make demo    re-rank the starter collection, from a fresh machine
# make test    lint, types and the test suite
# make chaos   drivers, actors, nodes and disks lost in mid-run, the long form
# make bench   pairs/s beside sentence-transformers, and memory over 10 and 100 units
# make model   make the embedded model again

PYTHON ?= python3
VENV   ?= .venv
SHARED ?= ../shared
BIN    := $(VENV)/bin
WORK   := work/model
TEACHER   ?= $(SHARED)/models/ms-marco-minilm-l12
PASSAGES  ?= $(SHARED)/data/dl20/passages.tsv

.PHONY: demo test slow chaos bench model clean

demo: $(VENV)/.core
	$(BIN)/ray-rerank demo

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

chaos: $(VENV)/.dev
	CHAOS=long $(BIN)/python -m pytest tests/chaos -v

bench: $(VENV)/.dev
	PYTHONPATH=. $(BIN)/python tests/benchmarks/scoring_speed.py
	PYTHONPATH=. $(BIN)/python tests/benchmarks/streaming_memory.py
	PYTHONPATH=. $(BIN)/python tests/benchmarks/cache_lookup.py
	PYTHONPATH=. $(BIN)/python tests/benchmarks/cache_warm.py

# The same pipeline as any distillation: queries, candidates, a teacher's scores, a student. Over half an hour on 2 cores.
model: $(VENV)/.dev
	$(BIN)/ray-rerank queries --passages $(PASSAGES) --output $(WORK)/queries.tsv --count 2000 --seed 7
	$(BIN)/ray-rerank prepare --queries $(WORK)/queries.tsv --passages $(PASSAGES) --bm25 6 --random 1 --seed 7 \
		--output $(WORK)/candidates
	$(BIN)/ray-rerank rerank --input $(WORK)/candidates --model $(TEACHER) --include-text --output $(WORK)/labels
	$(BIN)/ray-rerank train --input $(WORK)/labels --model $(TEACHER) --layers 0,1,2,3 --loss mse --epochs 2 \
		--batch-size 16 --learning-rate 1e-4 --warmup 0.05 --max-length 160 --dropout 0 --freeze-embeddings \
		--held-out 0.05 --seed 7 --save-precision fp16 --output jobs/starter/model --overwrite

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
