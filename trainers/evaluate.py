r"""Measures the test error of saved models.

    python -m trainers.evaluate --input=runs/mnist_mlp_l0
    python -m trainers.evaluate --input=small.tflite --dataset=mnist

The input is a workdir of `trainers.train`, of which all models are measured
on the data that they were trained for, or one .keras or .tflite file.
"""

from absl import flags

from trainers.run import program
from trainers.run import saved
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    program.define_data_flags(flag_values)
    program.define_device_flags(flag_values)
    saved.define_flags(flag_values)
    saved.define_dataset_flags(flag_values)


@program.main
def main():
    program.set_up(FLAGS.num_threads)
    paths, settings = saved.find(FLAGS.input)
    data = saved.load_data(FLAGS, settings, "test on")
    models = [saved.load(path) for path in paths]
    for path, model in zip(paths, models, strict=True):
        error = error_percent(predict(model, data), data)
        print(f"{path}: test error {error:.2f} %")


if __name__ == "__main__":
    program.run(main, define_flags)
