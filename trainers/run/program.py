"""How every program begins."""

import contextlib

import keras
import tensorflow as tf
from absl import flags
from absl import logging


def start(argv):
    """Refuses arguments that are not flags, and quietens the libraries.

    Args:
        argv: what `absl.app.run` hands to `main`.

    Raises:
        ValueError: `argv` has more than the program's name.
    """
    # absl shows all that libraries log at INFO unless told otherwise.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        raise ValueError(
            "All arguments must be flags, --name=value. "
            f"Received: {' '.join(argv[1:])}"
        )


def set_up(num_threads=0, num_logical_cpus=0):
    """Says how TensorFlow may use the machine; before it does anything else.

    Args:
        num_threads: threads within and between operations, 0 for its choice.
        num_logical_cpus: into how many devices to split the CPU, 0 to leave
            it one.

    Raises:
        ValueError: a negative number.
    """
    for name, value in (
        ("num_threads", num_threads),
        ("num_logical_cpus", num_logical_cpus),
    ):
        if value < 0:
            raise ValueError(
                f"Argument `{name}` must be at least 0. "
                f"Received: {name}={value}"
            )
    if num_threads:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(num_threads)
    if num_logical_cpus:
        [cpu] = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * num_logical_cpus
        )
    names = [device.name for device in tf.config.list_logical_devices()]
    print(f"Devices: {', '.join(names)}")


def make_strategy(name):
    """The `tf.distribute.Strategy` of that name.

    Args:
        name: `"none"`, or `"mirrored"` for all GPUs, else all logical CPUs.

    Returns:
        A strategy; for `"none"` the default one, of a single replica.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@contextlib.contextmanager
def dtype_policy(name):
    """Makes layers in a block compute in another precision.

    Args:
        name: of a Keras dtype policy.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
