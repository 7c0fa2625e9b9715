r"""Measures the test error of saved models.

    python -m trainers.evaluate --input=runs/mnist_mlp_l0
    python -m trainers.evaluate --input=small.tflite --dataset=mnist

The input is a workdir of `trainers.train`, of which all models are measured
on the data that they were trained for, or one .keras or .tflite file.
"""

import sys

from absl import app
from absl import flags

from trainers.run import config as config_lib
from trainers.run import program
from trainers.run import saved
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    config_lib.define_data_flags(flag_values)
    config_lib.define_device_flags(flag_values)
    saved.define_flags(flag_values)
    saved.define_dataset_flags(flag_values)


def main(argv):
    try:
        program.start(argv)
        program.set_up(FLAGS.num_threads)
        paths, settings = saved.find(FLAGS.input)
        data = saved.load_data(FLAGS, settings, "test on")
        models = [saved.load(path) for path in paths]
        for path, model in zip(paths, models, strict=True):
            error = error_percent(predict(model, data), data)
            print(f"{path}: test error {error:.2f} %")
    except ValueError as error:
        sys.exit(f"error: {error}")


def run():
    """The console command."""
    define_flags()
    flags.adopt_module_key_flags(config_lib)
    flags.adopt_module_key_flags(saved)
    app.run(main)


if __name__ == "__main__":
    run()
