# make search    a real search on real data, in a new virtual environment
#                TORCH=cpu, for any of these, installs PyTorch without CUDA libraries (.venv: 2 GB, not 6.3)
# make test      everything that is checked before a change lands
# make test-unit the tests that start no Ray and no command: about a minute
# make docs      the documentation as a site in site/; needs neither torch nor, once installed, a network
# make chaos   random failures in real searches; needs root. ARGS="--faults 20 --kinds here"
# make bench     all benchmarks, 30 to 50 minutes; writes a section of docs/benchmarks.md.
#                One alone: make bench ARGS="step --repeats 9"; CIFAR-10: ARGS="--data FOLDER"
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# cpu: PyTorch without CUDA libraries; empty: what PyPI has, which on Linux is PyTorch with them
TORCH ?=
CPU_INDEX := https://download.pytorch.org/whl/cpu
ifneq ($(filter-out cpu,$(TORCH)),)
$(error TORCH=$(TORCH): give TORCH=cpu, or leave it out)
endif

.PHONY: search test test-unit test-all test-lowest chaos check format docs bench clean

search: $(VENV)/.installed
	$(BIN)/imbtune search digits-lt $(if $(findstring --trials,$(ARGS)),,--trials 30) $(ARGS)

# Files of tests in two processes with a thread each, as Ray takes the CPUs as well; docs and
# integration tests, the longest, come first. A single test: ARGS="-n 0 -k NAME"
test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-unit: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 tests/unit $(ARGS)

test-all: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "" $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The variable silences Material's advertisement for its successor.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/bench.py $(ARGS)

chaos: $(VENV)/.installed-dev
	$(BIN)/python tests/chaos/chaos.py $(ARGS)

# The lowest versions that pyproject.toml allows, in an environment of their own.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-lowest/bin/python -m pip install --quiet -c constraints/lowest.txt -e . --group dev
	.venv-lowest/bin/pytest $(ARGS)

# pip 25.1 is the first that knows --group
$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.created
ifeq ($(TORCH),cpu)
	@echo "Installing imbtune and PyTorch for the CPU alone into $(VENV): about 2 GB, some minutes"
	$(BIN)/python -m pip install --quiet --index-url $(CPU_INDEX) torch torchvision
else
	@echo "Installing imbtune and PyTorch into $(VENV): some minutes; on Linux about 6.3 GB, with CUDA"
	@echo "libraries. Without a GPU, stop here (Ctrl-C) and type: make $(MAKECMDGOALS) TORCH=cpu"
endif
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet --group docs
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest site .mypy_cache .ruff_cache .pytest_cache .hypothesis
