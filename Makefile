PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python -m
INSTALLED = $(VENV)/.installed
PYTEST = $(RUN) pytest -p no:cacheprovider --durations=40
# The tests of what is written for all backends, not only for TensorFlow.
CORE_TESTS = tests/hard_concrete_test.py tests/positions_test.py \
	tests/gates tests/layers tests/optimizers tests/regularizers
# What trains networks, and so takes long.
PROGRAM_TESTS = tests/trainers tests/readme_test.py

.PHONY: demo test test-core test-jax test-others test-programs lint clean

demo: $(INSTALLED)
	TF_CPP_MIN_LOG_LEVEL=2 $(RUN) trainers.demo

# With `make -j2` side by side, the longest first.
test: test-programs test-jax test-others test-core

# Most of what JAX does here is to compile: quickly, and each program once.
test-jax: $(INSTALLED)
	KERAS_BACKEND=jax XLA_FLAGS=--xla_backend_optimization_level=0 \
	JAX_COMPILATION_CACHE_DIR=$(abspath $(VENV))/jax-cache \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1 \
	$(PYTEST) $(CORE_TESTS)

test-core: $(INSTALLED)
	KERAS_BACKEND=tensorflow $(PYTEST) $(CORE_TESTS)

test-programs: $(INSTALLED)
	KERAS_BACKEND=tensorflow $(PYTEST) $(PROGRAM_TESTS)

test-others: $(INSTALLED)
	KERAS_BACKEND=tensorflow $(PYTEST) \
		$(addprefix --ignore=,$(CORE_TESTS) $(PROGRAM_TESTS))

lint: $(INSTALLED)
	$(RUN) ruff check .
	$(RUN) ruff format --check .

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
