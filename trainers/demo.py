r"""Shows the whole road in one go, without any download.

    python -m trainers.demo

trains a network on scikit-learn's digits twice, with plain Keras layers and
with gates, strips the gated one, exports it to LiteRT, runs the file, and
prints what became of test error, units, parameters, MACs, bytes and latency.
Everything stays in `runs/demo`; the same command again shows the same table.
"""

import dataclasses
import os

from absl import flags

from trainers.run import program
from trainers.run import tables
from trainers.run.config import Config
from trainers.run.training import train
from trainers.run.workdir import replacing

FLAGS = flags.FLAGS

GATED = Config(
    model="mlp",
    dataset="digits",
    image_size=28,
    method="l0",
    l0_lambda=(0.03,),
    epochs=400,
    # Small data want large steps: the gates have few of them to close in.
    learning_rate=3e-3,
    ema_momentum=0.99,
    seed=1,
)
DENSE = dataclasses.replace(GATED, method="dense", epochs=100)


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    program.define_device_flags(flag_values)
    flags.DEFINE_string(
        "workdir",
        os.path.join("runs", "demo"),
        "Folder for all files of the demo.",
        flag_values=flag_values,
    )


def demo(workdir, gated=GATED, dense=DENSE):
    """Trains with gates and without, and compares the two.

    Args:
        workdir: the folder for everything that the runs leave behind.
        gated: the `Config` of the run with gates.
        dense: the `Config` of the run without; the same network.

    Returns:
        The table, a string of several lines, also in `table.txt`.

    Raises:
        ValueError: a workdir that cannot be used, see `Training`.
    """
    print("1. The plain network")
    compared = train(dense, os.path.join(workdir, "dense"))
    print("2. The same network with gates")
    report = train(gated, workdir)
    for key in ("test_error", "bytes", "latency_us"):
        report[key]["dense"] = compared[key]["dense"]
    text = tables.table(report)
    with replacing(os.path.join(workdir, "table.txt")) as path:
        with open(path, "w") as file:
            file.write(text + "\n")
    return text


@program.main(resumes=True)
def main():
    program.set_up(FLAGS.num_threads)
    print(demo(FLAGS.workdir))
    print(
        f"\nIn {FLAGS.workdir}: model.tflite, stripped.keras, report.json, "
        "history.csv, TensorBoard logs, and pictures:\npixel_gates.png shows "
        "which pixels are still read, units.png how units died out."
    )


if __name__ == "__main__":
    program.run(main, define_flags)
