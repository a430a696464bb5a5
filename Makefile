# Everything from a fresh clone: `make reproduce` and `make test`. Each sets up .venv first, which is quick the second time.
# PYTHON=/path/to/python3.12 chooses the interpreter; ARGS="..." goes on to the command.
.PHONY: help setup reproduce test quick bench gpu lint types docs lock
.DEFAULT_GOAL := help
export PYTHON
unexport PYTHONPATH PYTHONHOME
BIN := .venv/bin
# Pinned by hand: a newer one would bring gigabytes of CUDA libraries where a CPU build of this one is at hand.
TORCH := torch==2.13.0
# What `make reproduce` makes: quick or full (CONTRIBUTING.md says how long each takes), and where.
PRESET ?= quick
ifeq ($(PRESET),full)
FIGS := paper_figs
REPORT := build/report.html
BUDGET := full
LONG := midtrain rlvr smollm2
README := --readme README.md
else
FIGS := build/reproduce
REPORT := $(FIGS)/report.html
BUDGET := small
LONG := midtrain rlvr
endif
# Processes that share out the tests; each takes up to 5 GB. One more than cores: some tests wait more than they compute.
WORKERS ?= 3

help:
	@echo "make reproduce   set up, then verify the theory, make every figure and a report, in build/reproduce/ (10 minutes)"
	@echo "make reproduce PRESET=full   the same with all seeds, in paper_figs/ (hours)"
	@echo "make test        set up, then run all tests"
	@echo "make quick       the tests that are not slow"
	@echo "make bench       the benchmarks against other libraries"
	@echo "make gpu         the language models' small study on a GPU; rates and memory go to paper_figs/gpu.csv"
	@echo "make lint        style"
	@echo "make types       types, by mypy"
	@echo "make docs        the documentation, in build/docs/"
	@echo "make lock        choose and pin new versions of all packages"

setup:
	@sh .ci/setup

# The theory, every figure, the language models, the claims and the report. Nothing is computed twice. The full study goes
# to the folder that holds the published results. A statement that fails stands in the report, and fails the command.
reproduce: setup
ifneq ($(ARGS),)
	@$(BIN)/ra3 reproduce $(ARGS)
else
	@$(BIN)/ra3 reproduce --preset $(PRESET) --out $(FIGS)
	@$(BIN)/ra3 reproduce $(LONG) --preset $(PRESET) --out $(FIGS)
	@$(BIN)/ra3 verify --budget $(BUDGET) --out $(FIGS); verified=$$?; \
		$(BIN)/ra3 claims --figs $(FIGS) $(README) && $(BIN)/ra3 report --figs $(FIGS) --out $(REPORT) && exit $$verified
endif

test: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

quick: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

bench: setup
	@$(BIN)/python -m benchmarks $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

gpu: setup
	@$(BIN)/python -m experiments.gpu $(ARGS)

types: setup
	@$(BIN)/mypy

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "results: build/docs/index.html"

# In an environment of its own, so that nothing else that is installed gets into the lock.
lock: setup
	rm -rf build/lock
	$(BIN)/python -m venv build/lock
	build/lock/bin/python -m pip install --disable-pip-version-check --quiet "$(TORCH)"
	build/lock/bin/python -m pip install --disable-pip-version-check --quiet ".[test,bench]"
	build/lock/bin/python -m pip freeze --exclude ra3sim --exclude triton | grep -v '^nvidia' | \
		sed '/^torch==/s/+.*//' >build/lock/requirements
	mv build/lock/requirements requirements.lock
	rm -rf build/lock
