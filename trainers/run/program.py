"""How programs begin and end: flags, errors and exit codes, devices."""

import contextlib
import functools
import os
import sys

import keras
from absl import app
from absl import flags
from absl import logging

from l0keras.callbacks import NonFiniteError
from trainers.run.workdir import RESULTS
from trainers.run.workdir import write_results

# What a shell says of a program that was stopped with Ctrl-C.
INTERRUPTED = 130
RESUMES = "The same command goes on where this one stopped."


def main(work=None, *, arguments=False, errors=(), resumes=False):
    """Makes the `main` of a program: its errors end it with one line.

    A `ValueError` and a diverged training end the program with exit code 1
    and "error: ..." on stderr, Ctrl-C ends it with 130. `--verbosity=1` shows
    the traceback of an error too.

    Args:
        work: the function that does the work. It takes no arguments, or with
            `arguments` the list of those that are not flags.
        arguments: whether the program takes arguments that are not flags;
            they are refused otherwise.
        errors: further types of exceptions that end the program with a
            message, beside `ValueError`.
        resumes: whether the same command goes on where it was stopped.

    Returns:
        A function for `absl.app.run`; without `work` a decorator.

    Example:

    ```python
    @program.main(resumes=True)
    def main():
        print(train(config.from_flags(), FLAGS.workdir))


    if __name__ == "__main__":
        program.run(main, define_flags)
    ```
    """
    if work is None:
        return functools.partial(
            main, arguments=arguments, errors=errors, resumes=resumes
        )

    @functools.wraps(work)
    def guarded(argv):
        try:
            _quieten()
            if arguments:
                return work(argv[1:])
            _refuse(argv[1:])
            return work()
        except NonFiniteError as error:
            _fail(f"{error} The last good epoch, if there was one, is saved.")
        except (ValueError, *errors) as error:
            _fail(error)
        except KeyboardInterrupt:
            print("\nStopped.", RESUMES if resumes else "")
            sys.exit(INTERRUPTED)

    return guarded


def run(main, define_flags):
    """Runs a program: defines its flags, parses them, does its work.

    Args:
        main: a function that takes what `absl.app.run` gives; see `main`.
        define_flags: a function that defines the flags of the program in the
            `FlagValues` that it is given. `--help` lists them all.
    """
    values = flags.FLAGS
    known = set(values)
    define_flags(values)
    # By default it lists those that the main module itself defines.
    for name in set(values) - known:
        values.register_key_flag_for_module(sys.argv[0], values[name])
    app.run(main)


def _fail(error):
    logging.debug("Traceback of the error:", exc_info=True)
    sys.exit(f"error: {error}")


def _quieten():
    # absl shows all that libraries log at INFO unless told otherwise.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)


def _refuse(arguments):
    if arguments:
        raise ValueError(
            "All arguments must be flags, --name=value. "
            f"Received: {' '.join(arguments)}"
        )


def define_data_flags(flag_values=flags.FLAGS):
    """Defines where data lie, for all programs that read any."""
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder in which tensorflow_datasets keeps data sets; its own default "
        "if unset.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "manual_dir",
        None,
        "Folder with the original files of the data set; they are downloaded "
        "if unset.",
        flag_values=flag_values,
    )


def define_results_flag(flag_values=flags.FLAGS):
    """Defines where `show_results` leaves what was found."""
    flags.DEFINE_string(
        "save_to",
        None,
        f"Folder for {RESULTS} and table.md; nothing is kept if unset.",
        flag_values=flag_values,
    )


def define_seed_flag(of, flag_values=flags.FLAGS):
    """Defines the flag `seed`.

    Args:
        of: what it fixes, a string.
        flag_values: where to define it.
    """
    flags.DEFINE_integer(
        "seed", 0, f"Seed of {of}.", lower_bound=0, flag_values=flag_values
    )


def show_results(rows, text):
    """Prints the table of a study, and keeps it where `--save_to` says.

    Args:
        rows: what JSON can have.
        text: the table in Markdown, a string.
    """
    if flags.FLAGS.save_to:
        write_results(flags.FLAGS.save_to, rows, text)
    print(text)


def define_device_flags(flag_values=flags.FLAGS):
    """Defines how much of the machine to use."""
    flags.DEFINE_integer(
        "num_threads",
        0,
        "Number of TensorFlow's threads, within and between operations; 0 "
        "leaves the choice to it.",
        flag_values=flag_values,
    )


def set_up(num_threads=0, num_logical_cpus=0):
    """Says how the backend may use the machine; before it does anything else.

    Args:
        num_threads: threads within and between operations, 0 for its choice.
        num_logical_cpus: into how many devices to split the CPU, 0 to leave
            it one.

    Raises:
        ValueError: a negative number.
    """
    # Programs on JAX do without it.
    import tensorflow as tf

    for name, value in (
        ("num_threads", num_threads),
        ("num_logical_cpus", num_logical_cpus),
    ):
        if value < 0:
            raise ValueError(
                f"Argument `{name}` must be at least 0. "
                f"Received: {name}={value}"
            )
    if num_threads and keras.backend.backend() == "jax":
        # JAX has no such number, and takes as many as it may have cores.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:num_threads])
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
    import tensorflow as tf

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
