r"""Compares speeds within one run, the only way they can be compared.

    python -m trainers.benchmark --model=lenet5
    python -m trainers.benchmark --tflite dense.tflite small.tflite
    python -m trainers.benchmark --strip=ResNet50,ResNet101,ResNet152 --rounds=5

The first times a training step of a gated network against one of the plain
network; the second the latency of LiteRT files, one example at a time; the
third `strip` of networks of `keras.applications`, with half of their gates
closed, against building them, and measures the memory that it takes. All
candidates take turns, round by round, so that a busy machine slows them alike;
ratios are taken within each round.
"""

import functools
import os
import statistics
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app
from absl import flags

import l0keras
from l0keras.models import lenet5
from l0keras.models import mlp
from trainers import config as config_lib
from trainers import devices
from trainers import memory
from trainers import program
from trainers import zoo
from trainers.workdir import write_json

FLAGS = flags.FLAGS

MODELS = {"lenet5": lenet5, "mlp": mlp}
# One price for all; what it is makes no difference to the time of a step.
L0 = 0.1 / 60_000


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    config_lib.define_device_flags(flag_values)
    flags.DEFINE_enum(
        "model",
        "lenet5",
        list(MODELS),
        "The network whose training step is timed.",
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
        "shallow to the deepest.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "rounds",
        30,
        "How often each candidate is timed.",
        lower_bound=2,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "batch_size",
        100,
        "Examples in a step.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "steps_per_execution",
        50,
        "Steps in one call of the compiled training function.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_list(
        "tflite_threads",
        ["1", "2"],
        "Numbers of threads of LiteRT, each of which is timed.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "A JSON file for the numbers.",
        flag_values=flag_values,
    )


def interleave(candidates, rounds):
    """Times functions in turn.

    Args:
        candidates: a dictionary from names to functions without arguments.
            Each is called once before anything is timed.
        rounds: how often each is timed.

    Returns:
        A dictionary from the names to lists of `rounds` durations in
        seconds; entries of the same index were taken one after another.
    """
    for function in candidates.values():
        function()
    seconds = {name: [] for name in candidates}
    order = list(candidates)
    for _ in range(rounds):
        for name in order:
            start = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - start)
        order.reverse()
    return seconds


def summarize(seconds, per_call=1):
    """Condenses what `interleave` measured.

    Args:
        seconds: a dictionary from names to lists of durations; the first is
            the one that the others are compared with.
        per_call: how many units of work one duration stands for.

    Returns:
        A dictionary from names to the `median_us` and the quartiles `q1_us`
        and `q3_us` of one unit of work, and `ratio`, `ratio_q1` and
        `ratio_q3`: the median and quartiles, over the rounds, of the
        duration divided by that of the first name in the same round.
    """
    base = next(iter(seconds.values()))
    summary = {}
    for name, values in seconds.items():
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        ratios = [value / other for value, other in zip(values, base)]
        r1, ratio, r3 = statistics.quantiles(ratios, n=4, method="inclusive")
        summary[name] = {
            "median_us": 1e6 * median / per_call,
            "q1_us": 1e6 * q1 / per_call,
            "q3_us": 1e6 * q3 / per_call,
            "ratio": ratio,
            "ratio_q1": r1,
            "ratio_q3": r3,
        }
    return summary


def format_table(summary):
    """Sets a summary as lines of text, a line for each name."""
    width = max(len(name) for name in summary)
    lines = [
        f"{'':{width}}  {'median us':>10}  {'quartiles':>19}"
        f"  {'ratio':>6}  {'quartiles':>14}"
    ]
    for name, row in summary.items():
        lines.append(
            f"{name:{width}}  {row['median_us']:10.1f}"
            f"  {row['q1_us']:9.1f}-{row['q3_us']:9.1f}"
            f"  {row['ratio']:6.3f}"
            f"  {row['ratio_q1']:6.3f} -{row['ratio_q3']:6.3f}"
        )
    return "\n".join(lines)


def training_steps(model, batch_size, steps_per_execution):
    """A function that runs a model's training step several times.

    Args:
        model: a built `keras.Model` that gives logits; it gets compiled.
        batch_size: examples in a step.
        steps_per_execution: steps in one call of the function.

    Returns:
        A function without arguments. It returns when all steps are done.
    """
    rng = np.random.default_rng(0)
    images = rng.random((batch_size, *model.input_shape[1:]), "float32")
    labels = rng.integers(0, model.output_shape[-1], batch_size)
    # The same batch always: it stays where the steps need it.
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    model.compile(
        keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.999),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    model.make_train_function()

    def run():
        # Reading a number waits for the device.
        float(model.train_function(batches)["loss"])

    return run


def benchmark_training(name, batch_size, steps_per_execution, rounds):
    """Times a gated network's training step against the plain one's.

    Both have the same optimizer (Adam with averaged weights) and metrics.

    Args:
        name: one of `MODELS`.
        batch_size: examples in a step.
        steps_per_execution: steps in one call of the training function.
        rounds: how often each is timed.

    Returns:
        What `summarize` returns, for `"plain"` and `"gated"`.
    """
    build = MODELS[name]
    models = {
        "plain": build(seed=0),
        "gated": build(gates="paper", l0=L0, seed=0),
    }
    candidates = {
        kind: training_steps(model, batch_size, steps_per_execution)
        for kind, model in models.items()
    }
    return summarize(interleave(candidates, rounds), steps_per_execution)


def benchmark_tflite(paths, thread_counts, rounds):
    """Times LiteRT files, one example at a time.

    Args:
        paths: a list of `.tflite` files, the one to compare with first.
        thread_counts: a list of numbers of threads of LiteRT.
        rounds: how often each is timed; a time is the median of 100 runs.

    Returns:
        A dictionary from each number of threads to what `summarize` returns,
        for each path.

    Raises:
        ValueError: no such file, the same file twice, or no number of
            threads.
    """
    if len(set(paths)) < len(paths):
        raise ValueError(
            f"Argument `tflite` must name each file once. Received: {paths}"
        )
    counts = [int(text) if str(text).isdigit() else 0 for text in thread_counts]
    if not counts or min(counts) < 1:
        raise ValueError(
            "Argument `tflite_threads` must be integers of at least 1 with "
            f"commas between. Received: tflite_threads={thread_counts}"
        )
    seconds = {count: {path: [] for path in paths} for count in counts}
    for _ in range(rounds):
        for count in counts:
            times = l0keras.export.measure_latency(paths, count, runs=100)
            for path, microseconds in zip(paths, times, strict=True):
                seconds[count][path].append(1e-6 * microseconds)
    return {count: summarize(spent) for count, spent in seconds.items()}


def format_tflite_table(summary):
    """Sets what `benchmark_tflite` returns as lines of text."""
    return "\n\n".join(
        f"{count} thread{'s' if count > 1 else ''}\n{format_table(rows)}"
        for count, rows in summary.items()
    )


def applications(names):
    """What builds networks of `keras.applications`, with random weights.

    Args:
        names: a list of names of its functions.

    Returns:
        A dictionary from the names to functions without arguments.

    Raises:
        ValueError: no such function.
    """
    known = zoo.architectures()
    for name in names:
        if name not in known:
            raise ValueError(
                "Argument `strip` must name functions of keras.applications: "
                f"{', '.join(known)}. Received: {name}"
            )
    return {
        name: functools.partial(known[name], weights=None) for name in names
    }


def benchmark_strip(builders, rounds):
    """Times `strip` against building the network, and measures its memory.

    Args:
        builders: a dictionary from names to functions without arguments that
            return a functional `keras.Model`, the most shallow first. Their
            modules have to be importable by name.
        rounds: how often each is timed.

    Returns:
        A dictionary from the names to the number of `layers`, the medians
        `build_s` and `strip_s`, `ratio` (the median, over the rounds, of
        strip by build), `growth` (`strip_s` for each layer, divided by that of
        the first network: 1 where time is linear in depth), and `peak`: by how
        much `strip` made the resident memory of a process of its own grow at
        most, and the gated model's weights, in multiples of their bytes.
    """
    candidates, layers = {}, {}
    for name, build in builders.items():
        gated = _half_closed(build)
        layers[name] = len(gated.layers)
        candidates[name, "build"] = build
        candidates[name, "strip"] = functools.partial(l0keras.strip, gated)
    seconds = interleave(candidates, rounds)
    summary = {}
    for name, build in builders.items():
        times = [seconds[name, step] for step in ("build", "strip")]
        medians = [statistics.median(values) for values in times]
        ratios = [strip / build for build, strip in zip(*times)]
        summary[name] = {
            "layers": layers[name],
            "build_s": medians[0],
            "strip_s": medians[1],
            "ratio": statistics.median(ratios),
            "growth": medians[1] / layers[name],
            "peak": memory.in_a_process(_strip_memory, build),
        }
    first = next(iter(summary.values()))["growth"]
    for row in summary.values():
        row["growth"] /= first
    return summary


def _half_closed(build):
    model = l0keras.sparsify(build(), l0=L0, seed=0)
    for gate in l0keras.gates_of(model):
        shut = np.arange(gate.log_alpha.shape[0]) % 2
        gate.log_alpha.assign(np.where(shut, -4.0, 2.0))
    return model


def _strip_memory(build):
    model = _half_closed(build)
    # What TensorFlow and Keras load and set up once is not the model's.
    l0keras.strip(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]))
    held = memory.resident()
    memory.forget_peak()
    l0keras.strip(model)
    added = memory.peak() - held
    size = sum(keras.ops.convert_to_numpy(w).nbytes for w in model.weights)
    return 1 + added / size


def format_strip_table(summary):
    """Sets what `benchmark_strip` returns as lines of text."""
    width = max(len(name) for name in summary)
    lines = [
        f"{'':{width}}  {'layers':>6}  {'build s':>7}  {'strip s':>7}"
        f"  {'ratio':>6}  {'growth':>6}  {'memory':>6}"
    ]
    for name, row in summary.items():
        lines.append(
            f"{name:{width}}  {row['layers']:6}  {row['build_s']:7.2f}"
            f"  {row['strip_s']:7.2f}  {row['ratio']:6.2f}"
            f"  {row['growth']:6.2f}  {row['peak']:6.2f}"
        )
    return "\n".join(
        [
            *lines,
            "ratio: strip to build; growth: strip for each layer, to that of "
            "the first network;",
            "memory: the weights of the gated network and the most that strip "
            "held beside them, to those weights.",
        ]
    )


def main(argv):
    try:
        # What follows --tflite=a.tflite are further files.
        more = argv[1:] if FLAGS.tflite else []
        program.start(argv[: len(argv) - len(more)])
        if FLAGS.output and not os.path.isdir(
            os.path.dirname(os.path.abspath(FLAGS.output))
        ):
            raise ValueError(
                "Argument `output` must lie in a folder that exists. "
                f"Received: output={FLAGS.output}"
            )
        devices.set_up(FLAGS.num_threads)
        if FLAGS.tflite:
            form = format_tflite_table
            summary = benchmark_tflite(
                [*FLAGS.tflite, *more], FLAGS.tflite_threads, FLAGS.rounds
            )
        elif FLAGS.strip:
            form = format_strip_table
            summary = benchmark_strip(applications(FLAGS.strip), FLAGS.rounds)
        else:
            form = format_table
            summary = benchmark_training(
                FLAGS.model,
                FLAGS.batch_size,
                FLAGS.steps_per_execution,
                FLAGS.rounds,
            )
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(form(summary))
    if FLAGS.output:
        write_json(FLAGS.output, summary)


def run():
    """The console command."""
    define_flags()
    flags.adopt_module_key_flags(config_lib)
    app.run(main)


if __name__ == "__main__":
    run()
