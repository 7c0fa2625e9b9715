r"""Trains a network to be sparse, strips it and exports it.

    python -m trainers.train --model=lenet5 --dataset=mnist --method=l0 \
        --l0_lambda=0.1 --epochs=200 --workdir=runs/lenet5

    python -m trainers.train --workdir=runs/mnist_mlp_l0 \
        --flagfile=trainers/experiments/mnist_mlp_l0.flags

    python -m trainers.train --model=lstm --method=dense --dataset=mnist \
        --workdir=runs/rows

    python -m trainers.train --model=lstm --method=dense --dataset=timit \
        --manual_dir=LDC93S1 --workdir=runs/timit

The LSTM reads an image row by row, and classifies each frame of TIMIT's speech
(see trainers.speech), whose files are bought from the LDC and not downloaded.

The same command again resumes a run that was stopped, whichever way, and
shows the table of one that is finished.
"""

import sys

from absl import app
from absl import flags

from l0keras.callbacks import NonFiniteError
from trainers.run import config as config_lib
from trainers.run import program
from trainers.run import tables
from trainers.run.training import Training

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    config_lib.define_flags(flag_values)
    config_lib.define_data_flags(flag_values)
    config_lib.define_device_flags(flag_values)
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder for everything that the run leaves behind.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "steps_per_execution",
        0,
        "Steps in one call of the compiled training function, a divisor of "
        "the steps in an epoch; 0 chooses one.",
        flag_values=flag_values,
    )


def main(argv):
    try:
        program.start(argv)
        config = config_lib.from_flags()
        program.set_up(FLAGS.num_threads, config.num_logical_cpus)
        training = Training(
            config,
            FLAGS.workdir,
            data_dir=FLAGS.data_dir,
            manual_dir=FLAGS.manual_dir,
            steps_per_execution=FLAGS.steps_per_execution,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    try:
        report = training.run()
    except NonFiniteError as error:
        sys.exit(
            f"error: {error} What is saved in {FLAGS.workdir} is the last good "
            "epoch, if there was one."
        )
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last epoch.")
        sys.exit(130)
    print(tables.table(report))


def run():
    """The console command."""
    define_flags()
    flags.adopt_module_key_flags(config_lib)
    app.run(main)


if __name__ == "__main__":
    run()
