PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python -m
INSTALLED = $(VENV)/.installed
# One process a core; whoever is done takes tests from the others. Pytest's
# own `-n auto` counts two threads of one core as one.
CORES ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
PYTEST = $(RUN) pytest -p no:cacheprovider -n $(CORES) --dist worksteal \
	--durations=20
# The tests of what is written for all backends, not only for TensorFlow.
CORE_TESTS = tests/hard_concrete_test.py tests/connections/positions_test.py \
	tests/copying_test.py tests/callbacks/refresh_batch_norm_test.py \
	tests/gates tests/layers tests/optimizers tests/regularizers
# Programs, the README, data sets: what trains networks, and so takes long.
INTEGRATION_TESTS = tests/integration

.PHONY: demo web-demo test test-jax test-integration test-all mutations \
	lint docs clean

demo: $(INSTALLED)
	TF_CPP_MIN_LOG_LEVEL=2 $(RUN) trainers.demo

# A page that runs LiteRT files in the browser; npm brings the runtime.
web-demo: $(INSTALLED)
	TF_CPP_MIN_LOG_LEVEL=2 $(RUN) trainers.web_demo

test: $(INSTALLED)
	KERAS_BACKEND=tensorflow $(PYTEST) --ignore=$(INTEGRATION_TESTS)

# Most of what JAX does here is to compile: quickly, and each program once.
test-jax: $(INSTALLED)
	KERAS_BACKEND=jax XLA_FLAGS=--xla_backend_optimization_level=0 \
	JAX_COMPILATION_CACHE_DIR=$(abspath $(VENV))/jax-cache \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1 \
	$(PYTEST) $(CORE_TESTS)

test-integration: $(INSTALLED)
	KERAS_BACKEND=tensorflow $(PYTEST) $(INTEGRATION_TESTS)

test-all: test test-jax test-integration

# Breaks lines of the core in a copy; the tests must notice each.
mutations: $(INSTALLED)
	KERAS_BACKEND=tensorflow $(RUN) tests.mutations

lint: $(INSTALLED)
	$(RUN) ruff check .
	$(RUN) ruff format --check .

# The site goes to build/docs; a broken link or reference is an error.
docs: $(INSTALLED)
	$(RUN) pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

clean:
	rm -rf $(VENV) build dist *.egg-info

# Installed once, and again when what the packages need has changed.
$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or later is needed, $(PYTHON) is" \
			"$$($(PYTHON) --version 2>&1). Name another one:" \
			"make PYTHON=python3.11" >&2; \
		exit 1; \
	}
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --editable '.[test]'
	@touch $@
