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
(see trainers.data.speech). Its files are bought from the LDC and not
downloaded.

    python -m trainers.train --model=lenet5 --dataset=mnist --method=l0 \
        --target_macs=0.1 --epochs=150 --finetune_epochs=50 \
        --workdir=runs/tenth

With a target the gates are steered to the size that is asked for, the network
is cut to it, and trained on.

The same command again resumes a run that was stopped, whichever way, and
shows the table of one that is finished.
"""

from absl import flags

from trainers.run import config as config_lib
from trainers.run import program
from trainers.run import tables
from trainers.run.dense import with_dense
from trainers.run.training import train

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    config_lib.define_flags(flag_values)
    program.define_data_flags(flag_values)
    program.define_device_flags(flag_values)
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder for all files of the run.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "steps_per_execution",
        0,
        "Steps in one call of the compiled training function, a divisor of "
        "the steps in an epoch; 0 chooses one.",
        flag_values=flag_values,
    )
    flags.DEFINE_boolean(
        "dense",
        True,
        "Training of the same network without sparsity too, in the workdir's "
        "folder dense, for the first row of the table.",
        flag_values=flag_values,
    )


@program.main(resumes=True)
def main():
    config = config_lib.from_flags()
    program.set_up(FLAGS.num_threads, config.num_logical_cpus)
    where = {
        "data_dir": FLAGS.data_dir,
        "manual_dir": FLAGS.manual_dir,
        "steps_per_execution": FLAGS.steps_per_execution,
    }
    report = train(config, FLAGS.workdir, **where)
    if FLAGS.dense:
        report = with_dense(report, config, FLAGS.workdir, **where)
    print(tables.table(report))


if __name__ == "__main__":
    program.run(main, define_flags)
