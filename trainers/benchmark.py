r"""Compares speeds within one run, the only way they can be compared.

    python -m trainers.benchmark --model=lenet5
    python -m trainers.benchmark --tflite dense.tflite small.tflite
    python -m trainers.benchmark --strip=ResNet50,ResNet101,ResNet152 --rounds=5
    python -m trainers.benchmark --prox=100000

The first command times training steps: of a gated network against the plain
one, of `resnet56` with gates that depend on each other against gates that do
not. The second times LiteRT files, one example at a time. The third times
`strip` of networks of `keras.applications`, with half of their gates closed,
against building them, and measures the memory that it takes. The fourth times
the prox of the group envelope against sorting. All candidates take turns, round
by round, so that a busy machine slows them alike; ratios are taken within each
round.
"""

import os

from absl import flags

from trainers.benchmarks.applications import architectures
from trainers.benchmarks.applications import builder
from trainers.benchmarks.latency import benchmark_tflite
from trainers.benchmarks.latency import format_tflite_table
from trainers.benchmarks.measure import format_table
from trainers.benchmarks.prox_time import benchmark_prox
from trainers.benchmarks.steps import STEPS
from trainers.benchmarks.steps import benchmark_training
from trainers.benchmarks.strip_time import applications
from trainers.benchmarks.strip_time import benchmark_every_strip
from trainers.benchmarks.strip_time import benchmark_strip
from trainers.benchmarks.strip_time import format_strip_table
from trainers.run import program
from trainers.run.workdir import write_json

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    program.define_device_flags(flag_values)
    flags.DEFINE_enum(
        "model",
        "lenet5",
        list(STEPS),
        "Network whose training steps are timed.",
        flag_values=flag_values,
    )
    flags.DEFINE_multi_string(
        "tflite",
        [],
        "LiteRT files to time instead, the one to compare with first; more "
        "may follow without the name of the flag.",
        flag_values=flag_values,
    )
    flags.DEFINE_list(
        "strip",
        [],
        "Networks of keras.applications to strip instead, from the most "
        "shallow to the deepest; or all, for their smallest images.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "prox",
        0,
        "Number of groups of a prox to time instead.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "rounds",
        30,
        "Number of times that each candidate is timed.",
        lower_bound=2,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "batch_size",
        100,
        "Number of examples in a step.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "steps_per_execution",
        50,
        "Number of steps in one call of the compiled training function.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_list(
        "tflite_threads",
        ["1", "2"],
        "Numbers of threads of LiteRT to time, with commas between.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "JSON file for the numbers.",
        flag_values=flag_values,
    )


@program.main(arguments=True)
def main(more):
    # After --tflite=a.tflite come further files.
    if more and not FLAGS.tflite:
        raise ValueError(
            "All arguments must be flags, --name=value. "
            f"Received: {' '.join(more)}"
        )
    given = [name for name in ("tflite", "strip", "prox") if FLAGS[name].value]
    if len(given) > 1:
        raise ValueError(
            "Arguments `tflite`, `strip` and `prox` name measurements of their "
            f"own, of which one can be made at a time. Received: {given}"
        )
    if FLAGS.output and not os.path.isdir(
        os.path.dirname(os.path.abspath(FLAGS.output))
    ):
        raise ValueError(
            "Argument `output` must lie in a folder that exists. "
            f"Received: output={FLAGS.output}"
        )
    program.set_up(FLAGS.num_threads)
    if FLAGS.tflite:
        form = format_tflite_table
        summary = benchmark_tflite(
            [*FLAGS.tflite, *more], FLAGS.tflite_threads, FLAGS.rounds
        )
    elif FLAGS.strip == ["all"]:
        form = format_strip_table
        builders = {name: builder(name) for name in architectures()}
        summary = benchmark_every_strip(builders, FLAGS.rounds)
    elif FLAGS.strip:
        form = format_strip_table
        summary = benchmark_strip(applications(FLAGS.strip), FLAGS.rounds)
    elif FLAGS.prox:
        form = format_table
        summary = benchmark_prox(FLAGS.prox, FLAGS.rounds)
    else:
        form = format_table
        summary = benchmark_training(
            FLAGS.model,
            FLAGS.batch_size,
            FLAGS.steps_per_execution,
            FLAGS.rounds,
            FLAGS.num_threads,
        )
    print(form(summary))
    if FLAGS.output:
        write_json(FLAGS.output, summary)


if __name__ == "__main__":
    program.run(main, define_flags)
