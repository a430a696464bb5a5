# Everything from a fresh clone: `make reproduce` and `make test`. Each sets up .venv first, which is quick the second time.
# PYTHON=/path/to/python3.12 chooses the interpreter; ARGS="..." goes on to the command.
.PHONY: help setup reproduce test quick bench lint lock
.DEFAULT_GOAL := help
export PYTHON
unexport PYTHONPATH PYTHONHOME
BIN := .venv/bin
# Pinned by hand: a newer one would bring gigabytes of CUDA libraries where a CPU build of this one is at hand.
TORCH := torch==2.13.0
# Processes that share out the tests; each takes up to 2 GB.
WORKERS ?= 2

help:
	@echo "make reproduce   set up, then make every figure and table in paper_figs/, and verify the theory"
	@echo "make test        set up, then run all tests"
	@echo "make quick       the tests that are not slow"
	@echo "make bench       the benchmarks against other libraries"
	@echo "make lint        style"
	@echo "make lock        choose and pin new versions of all packages"

setup:
	@sh .ci/setup

# After all figures (of which one is of the statements of the theory), those of the language models, whose full data take
# hours, in small; then the verdict on the statements. Nothing is computed twice.
reproduce: setup
	@$(BIN)/ra3 reproduce $(ARGS)
	@$(if $(ARGS),,$(BIN)/ra3 reproduce midtrain smollm2 rlvr --preset smoke --out build/smoke)
	@$(if $(ARGS),,$(BIN)/ra3 verify)

test: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

quick: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

bench: setup
	@$(BIN)/python -m benchmarks $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

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
