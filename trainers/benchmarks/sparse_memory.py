r"""Memory of the training of a huge layer with few connections.

    KERAS_BACKEND=jax python -m trainers.benchmarks.sparse_memory
    python -m trainers.benchmarks.sparse_memory --batch_size=32

builds a `SparseDense` of 32,768 x 32,768 with 0.01 % of its connections, makes
one training step with Adam and prints two peaks of this process's resident
memory: after the imports and after the step. The weights of a dense layer alone
would take 4.3 GB, with Adam 13 GB.
"""

import keras
import numpy as np
from absl import flags

from l0keras.layers import SparseDense
from trainers.benchmarks.measure import peak
from trainers.run import program

FLAGS = flags.FLAGS
SIZE = 32_768
CONNECTIVITY = 1e-4


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    flags.DEFINE_integer(
        "batch_size",
        1,
        "Examples in the step.",
        lower_bound=1,
        flag_values=flag_values,
    )


def measure(batch_size, size=SIZE, connectivity=CONNECTIVITY):
    """Builds and trains a layer with few connections.

    Args:
        batch_size: examples in the step.
        size: the numbers of inputs and of outputs.
        connectivity: the share of connections.

    Returns:
        A dict with `connections`, and `before` and `after`, the peaks of
        this process in bytes, since it began.
    """
    before = peak()
    layer = SparseDense(size, connectivity, seed=0)
    model = keras.Sequential([keras.Input((size,)), layer])
    model.compile(keras.optimizers.Adam(), "mse")
    x = np.ones((batch_size, size), "float32")
    model.train_on_batch(x, x)
    return {
        "connections": layer.connections,
        "before": before,
        "after": peak(),
    }


@program.main
def main():
    found = measure(FLAGS.batch_size)
    print(
        f"{keras.backend.backend()}: {found['connections']:,} connections, "
        f"peak {found['after'] / 1e6:.0f} MB, "
        f"{found['before'] / 1e6:.0f} MB after the imports"
    )


if __name__ == "__main__":
    program.run(main, define_flags)
