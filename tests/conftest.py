import gc
import os

# Before anything imports TensorFlow: errors yes, its start-up chatter no.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On by default on some CPUs only; without it there are no dilated transposed
# convolutions, no channels_first ones, and steps take half as long again.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The suite must give the same results wherever it runs.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import hypothesis  # noqa: E402
import keras  # noqa: E402
import matplotlib  # noqa: E402
import pytest  # noqa: E402

matplotlib.use("Agg")

# The first call of an operation compiles, so that times say nothing; and a
# suite that finds other examples each time cannot be compared with itself.
hypothesis.settings.register_profile(
    "l0keras", deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("l0keras")

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Two devices for the tests of tf.distribute; possible only before the
    # first operation runs.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )


def pytest_collection_finish():
    """Spares the collector all modules and tests: a sixth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_state():
    """Starts each test from the same seed and leaves nothing behind."""
    keras.utils.set_random_seed(1)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
    keras.utils.clear_session(free_memory=False)


if keras.backend.backend() == "jax":
    import jax

    @pytest.fixture(autouse=True, scope="module")
    def no_compiled_operations():
        """Forgets them, or a whole suite has more than a process may map."""
        yield
        jax.clear_caches()
