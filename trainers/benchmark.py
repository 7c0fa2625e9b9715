"""Compares speeds within one run, the only way they can be compared.

    python -m trainers.benchmark --model=lenet5
    python -m trainers.benchmark --tflite=dense.tflite --tflite=small.tflite

The first line times a training step of a gated network against one of the
plain Keras network; the second the latency of LiteRT files. The candidates
take turns, round by round and in changing order, so that a busy machine slows
all of them alike.
"""

import json
import os
import statistics
import time

import keras
import numpy as np
from absl import app
from absl import flags

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "model", "lenet5", ["lenet5", "mlp"], "The network whose step is timed."
)
flags.DEFINE_integer("batch_size", 100, "Examples in a step.", lower_bound=1)
flags.DEFINE_integer(
    "steps_per_execution",
    50,
    "Steps in one call of the compiled training function.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "rounds", 30, "How often each candidate is timed.", lower_bound=3
)
flags.DEFINE_multi_string(
    "tflite", [], "LiteRT files to time instead of training steps."
)
flags.DEFINE_integer("threads", 1, "Threads of LiteRT.", lower_bound=1)
flags.DEFINE_string("output", None, "A file for the numbers, as JSON.")


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
        model: a built `keras.Model` that ends in logits; it gets compiled.
        batch_size: examples in a step.
        steps_per_execution: steps in one call of the returned function.

    Returns:
        A function without arguments. It returns when all steps are done.
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = rng.random((batch_size, *model.input_shape[1:]), "float32")
    labels = rng.integers(0, model.output_shape[-1], batch_size)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    model.compile(
        keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.999),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    model.make_train_function()
    iterator = iter(batches)

    def run():
        logs = model.train_function(iterator)
        # Reading a number waits for the device.
        float(logs["loss"])

    return run


def benchmark_training(model, batch_size, steps_per_execution, rounds):
    """Times a gated network's training step against the plain one's.

    Args:
        model: `"lenet5"` or `"mlp"`.
        batch_size: examples in a step.
        steps_per_execution: steps in one call of the training function.
        rounds: how often each is timed.

    Returns:
        What `summarize` returns, for `"plain"` and `"gated"` in this order.
    """
    plain, gated = build(model)
    seconds = interleave(
        {
            "plain": training_steps(plain, batch_size, steps_per_execution),
            "gated": training_steps(gated, batch_size, steps_per_execution),
        },
        rounds,
    )
    return summarize(seconds, steps_per_execution)


def build(name):
    from l0keras import layers

    rows = []
    if name == "lenet5":
        rows = [
            ("Conv2D", (20, 5), {"activation": "relu"}),
            ("MaxPooling2D", (), {}),
            ("Conv2D", (50, 5), {"activation": "relu"}),
            ("MaxPooling2D", (), {}),
            ("Flatten", (), {}),
            ("Dense", (500,), {"activation": "relu"}),
            ("Dense", (10,), {}),
        ]
    else:
        rows = [
            ("Flatten", (), {}),
            ("Dense", (300,), {"activation": "relu"}),
            ("Dense", (100,), {"activation": "relu"}),
            ("Dense", (10,), {}),
        ]
    plain = [keras.Input((28, 28, 1))]
    gated = [keras.Input((28, 28, 1))]
    for kind, args, kwargs in rows:
        plain.append(getattr(keras.layers, kind)(*args, **kwargs))
        if hasattr(layers, "L0" + kind):
            gated.append(
                getattr(layers, "L0" + kind)(*args, l0=0.1 / 60_000, **kwargs)
            )
        else:
            gated.append(getattr(keras.layers, kind)(*args, **kwargs))
    return keras.Sequential(plain), keras.Sequential(gated)


def write_json(path, content):
    partial = f"{path}.partial"
    with open(partial, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    os.replace(partial, path)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    summary = benchmark_training(
        FLAGS.model, FLAGS.batch_size, FLAGS.steps_per_execution, FLAGS.rounds
    )
    print(format_table(summary))
    if FLAGS.output:
        write_json(FLAGS.output, summary)


def run():
    """The console command `l0keras-benchmark`."""
    app.run(main)


if __name__ == "__main__":
    run()
