"""All ratios of speed in one table.

    python -m trainers.benchmarks.speed --save_to=saved_models/speed

runs `trainers.benchmark` for each line of the table, one after the other, each
in a process of its own, and writes the ratios, their quartiles and the goals.
The machine should do nothing else meanwhile. Lines that are in `results.json`
already are not measured again; `--runs` measures some of them anew.
"""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile

from absl import flags

from trainers.run import program
from trainers.run import tables
from trainers.run.workdir import RESULTS
from trainers.run.workdir import write_results

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        title: the two things whose ratio it is.
        run: a key of `RUNS`.
        of: the candidate of that run.
        goal: the largest ratio that is good enough, or with `inverse` the
            smallest; `None` without a goal.
        inverse: whether to show how many times faster it is.
        key: the entry of the candidate that has the ratio.
    """

    title: str
    run: str
    of: str
    goal: float | None = None
    inverse: bool = False
    key: str = "ratio"


def _sparse(model, steps):
    """The flags of a run of layers of 8,192 x 8,192."""
    return (
        f"--model={model}",
        "--batch_size=32",
        f"--steps_per_execution={steps}",
        "--num_threads=1",
        "--rounds=6",
    )


RUNS = {
    "lenet5": ("--model=lenet5",),
    "mlp": ("--model=mlp",),
    "resnet56": (
        "--model=resnet56",
        "--batch_size=128",
        "--steps_per_execution=1",
        "--rounds=12",
    ),
    "sparse_dense_adam": _sparse("sparse_dense_adam", 1),
    "sparse_dense": _sparse("sparse_dense", 1),
    "sparse_dense_adam_jax": _sparse("sparse_dense_adam", 10),
    "sparse_dense_jax": _sparse("sparse_dense", 10),
    "deep_r": ("--model=deep_r", "--batch_size=100"),
    "lenet5_torch": ("--model=lenet5_torch",),
    "mlp_torch": ("--model=mlp_torch",),
    "prox": ("--prox=100000", "--num_threads=1"),
    "strip": ("--strip=ResNet50,ResNet101,ResNet152", "--rounds=5"),
    "every_strip": ("--strip=all", "--rounds=2"),
}
ROWS = (
    Row("gated LeNet-5 step to the plain one", "lenet5", "gated", 1.05),
    Row("gated MLP step to the plain one", "mlp", "gated", 1.10),
    Row(
        "ResNet-56 step, gates in a forward chain to independent ones",
        "resnet56",
        "forward",
        1.10,
    ),
    Row("the same, backward chain", "resnet56", "backward", 1.10),
    Row(
        "Dense 8,192 x 8,192 to SparseDense with 1 %, Adam",
        "sparse_dense_adam",
        "sparse",
        3.0,
        inverse=True,
    ),
    Row("the same, SGD", "sparse_dense", "sparse", 3.0, inverse=True),
    Row(
        "the same, Adam in DEEP R",
        "sparse_dense_adam",
        "sparse_deep_r",
        3.0,
        inverse=True,
    ),
    Row(
        "the same, SGD in DEEP R",
        "sparse_dense",
        "sparse_deep_r",
        3.0,
        inverse=True,
    ),
    Row(
        "the same on JAX, Adam in DEEP R",
        "sparse_dense_adam_jax",
        "sparse_deep_r",
        3.0,
        inverse=True,
    ),
    Row(
        "the same on JAX, SGD in DEEP R",
        "sparse_dense_jax",
        "sparse_deep_r",
        3.0,
        inverse=True,
    ),
    Row(
        "MLP step of SGD in DEEP R to SGD's, by layer", "deep_r", "deep_r", 1.25
    ),
    Row("the same, global", "deep_r", "deep_r_global", 1.25),
    Row(
        "gated LeNet-5 step in PyTorch to ours",
        "lenet5_torch",
        "gated",
        2.0,
        inverse=True,
    ),
    Row(
        "gated MLP step in PyTorch to ours",
        "mlp_torch",
        "gated",
        2.0,
        inverse=True,
    ),
    Row(
        "prox of 100,000 groups (k = 10,000, mu = 0.1) to sorting them",
        "prox",
        "prox, k=10000, mu=0.1",
        5.0,
    ),
    Row("strip of ResNet152 to building it", "strip", "ResNet152", 3.0),
    Row(
        "the same, the largest of all networks with their smallest images",
        "every_strip",
        "largest",
        3.0,
    ),
    Row(
        "strip for each layer, ResNet152 to ResNet50",
        "strip",
        "ResNet152",
        1.5,
        key="growth",
    ),
    Row(
        "check of strip's result to strip without it, ResNet50",
        "strip",
        "ResNet50",
        0.2,
        key="check",
    ),
    Row(
        "memory of strip of ResNet152 to its weights",
        "strip",
        "ResNet152",
        3.0,
        key="peak",
    ),
)


def _backend(name):
    return "jax" if name.endswith("_jax") else "tensorflow"


def measure(name):
    """Runs `trainers.benchmark` in a process of its own.

    Args:
        name: a key of `RUNS`.

    Returns:
        What it writes with `--output`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "numbers.json")
        subprocess.run(
            [
                *(sys.executable, "-m", "trainers.benchmark"),
                *RUNS[name],
                f"--output={path}",
            ],
            env={**os.environ, "KERAS_BACKEND": _backend(name)},
            check=True,
        )
        with open(path) as file:
            return json.load(file)


def cells(results):
    """The table: titles and rows of strings.

    Args:
        results: a dict from keys of `RUNS` to what `measure` returns.
    """
    lines = [["ratio of", "ratio", "quartiles", "goal", "reached", "command"]]
    for row in ROWS:
        if row.run not in results:
            continue
        found = results[row.run][row.of]
        keys = [row.key]
        if row.key == "ratio" and "ratio_q1" in found:
            keys += ["ratio_q1", "ratio_q3"]
        numbers = [found[key] for key in keys]
        if row.inverse:
            numbers = [1 / number for number in numbers]
        goal = reached = "-"
        if row.goal is not None:
            sign = ">=" if row.inverse else "<="
            goal = f"{sign} {row.goal:g}"
            good = (
                numbers[0] >= row.goal
                if row.inverse
                else numbers[0] <= row.goal
            )
            reached = "yes" if good else "missed"
        quartiles = "-"
        if len(numbers) > 1:
            quartiles = "{:.2f}-{:.2f}".format(*sorted(numbers[1:]))
        command = f"python -m trainers.benchmark {' '.join(RUNS[row.run])}"
        if _backend(row.run) != "tensorflow":
            command = f"KERAS_BACKEND={_backend(row.run)} {command}"
        lines.append(
            [
                *(row.title, f"{numbers[0]:.2f}", quartiles, goal, reached),
                f"`{command}`",
            ]
        )
    return lines


def save(results, folder):
    """Leaves results and table in a folder."""
    write_results(folder, results, tables.markdown(cells(results)) + "\n")


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "save_to",
        None,
        f"Folder for {RESULTS} and table.md; lines that are there are kept.",
        flag_values=flag_values,
    )
    flags.DEFINE_list(
        "runs",
        [],
        f"Runs to measure anew, of {', '.join(RUNS)}.",
        flag_values=flag_values,
    )


@program.main(errors=(subprocess.CalledProcessError,), resumes=True)
def main():
    for name in FLAGS.runs:
        if name not in RUNS:
            raise ValueError(
                f"Argument `runs` must be of {', '.join(RUNS)}. "
                f"Received: runs={name}"
            )
    if not FLAGS.save_to:
        raise ValueError(
            "Argument `save_to` must name a folder. Received: "
            f"save_to={FLAGS.save_to!r}"
        )
    path = os.path.join(FLAGS.save_to, RESULTS)
    results = {}
    if os.path.exists(path):
        with open(path) as file:
            results = json.load(file)
    for name in RUNS:
        if name in results and name not in FLAGS.runs:
            continue
        print(f"{name}: {' '.join(RUNS[name])}", flush=True)
        results[name] = {**measure(name), "machine": _machine()}
        save(results, FLAGS.save_to)
    print(tables.markdown(cells(results)))


def _machine():
    return f"{platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    program.run(main, define_flags)
