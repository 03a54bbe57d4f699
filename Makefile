# Everything here needs python3 (3.10-3.12), g++ and make, and brings up the rest by itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# One test more at a time than there are cores, at most four: many wait for processes that they have started.
PARALLEL ?= -n $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 3 ? cores + 1 : 4))) --dist worksteal

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
		|| { echo "$(PYTHON) is not Python 3.10, 3.11 or 3.12: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable '.[dev]'
	@touch $@

.PHONY: setup
setup: $(BIN)/.installed ## Create .venv and install the project with its development tools

.PHONY: demo
demo: setup ## Train tiny on drawn shapes for a few minutes and show what a run leaves
	$(BIN)/python -m runners.train model=tiny dataset=shapes schedule=demo $(ARGS)

.PHONY: warm
warm: setup ## Compile ahead what a model needs: make warm ARGS="warm_model=base warm_crop=[1024,1024]"
	$(BIN)/python -m runners.doctor warm=true $(ARGS)

.PHONY: test
test: setup ## Run the tests
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

.PHONY: gpu
gpu: setup ## Bring-up, tests, curves and speed on a GPU: make gpu MINUTES=9 ARGS=outputs/gpu/first (docs/gpu.md)
	[ "$(DEVICE)" = cpu ] || $(BIN)/python -c 'from segnext.backend.cuda.bring_up import find_cuda; find_cuda()' \
		|| $(BIN)/python -m pip install -qq --editable '.[dev,cuda13]'
	PYTHON=$(abspath $(BIN)/python) DEVICE=$(or $(DEVICE),cuda) MINUTES=$(MINUTES) .ci/gpu.sh $(ARGS)

.PHONY: gpu-pack
gpu-pack: setup ## Collect what a GPU machine without network needs, into outputs/gpu-pack (docs/gpu.md)
	PYTHON=$(abspath $(BIN)/python) .ci/gpu_pack.sh $(ARGS)

.PHONY: docs
docs: setup ## Build the documentation as a site, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

.PHONY: pictures
pictures: setup ## Make the pictures in docs/images from real runs: make pictures [ARGS=SWEEP] (needs Chromium and tmux)
	$(BIN)/python .ci/pictures.py $(ARGS)

.PHONY: format
format: setup ## Format the sources
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: check
check: setup docs ## Format check, lint, types, levels of imports, documentation and tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

.PHONY: clean
clean: ## Remove .venv and caches; runs under outputs/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
