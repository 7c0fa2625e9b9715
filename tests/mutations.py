"""Breaks lines of the core, one after the other, and wants red tests.

Run by `make mutations`. Each break is made in a copy of the tree, in which
the tests that are about the line run until one fails.
"""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
# What tests read besides the packages.
FOLDERS = ("l0keras", "tests", "trainers")


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A break.

    Args:
        name: of what the line does.
        path: of the file, in `l0keras`.
        line: a part of it that comes once in the file.
        broken: what to write in its place.
        tests: files and folders in `tests`, of which one must fail.
    """

    name: str
    path: str
    line: str
    broken: str
    tests: tuple


MUTATIONS = [
    Mutation(
        "the mode that layers inside of an opened one are in",
        "graph/opening/tracing.py",
        'context.set_value("training", training)',
        'context.set_value("training", None)',
        ("graph/opening/open_layer_test.py",),
    ),
    Mutation(
        "which variable a lifted bias is",
        "graph/opening/lifting.py",
        "layer.bias.assign(bias)",
        "layer.bias.assign(-bias)",
        ("graph/opening/lifting_test.py",),
    ),
    Mutation(
        "how far a result may be off",
        "proof/outputs.py",
        "_FACTOR = 10",
        "_FACTOR = 1e9",
        ("proof/verify_test.py",),
    ),
    Mutation(
        "the sign of a sample's gradient",
        "hard_concrete.py",
        "return upstream * inside",
        "return -upstream * inside",
        ("hard_concrete_test.py",),
    ),
    Mutation(
        "the stretch of the gate at test time",
        "hard_concrete.py",
        "ops.sigmoid(log_alpha) * (zeta - gamma) + gamma",
        "ops.sigmoid(log_alpha) * zeta + gamma",
        ("hard_concrete_test.py",),
    ),
    Mutation(
        "the constant of the expected L0 norm",
        "hard_concrete.py",
        "temperature * math.log(-gamma / zeta)",
        "math.log(-gamma / zeta)",
        ("hard_concrete_test.py",),
    ),
    Mutation(
        "the decay of what a gate closes",
        "regularizers/l0.py",
        "ops.sum(prob * norms)",
        "ops.sum(norms)",
        ("regularizers/l0_test.py", "layers/l0_dense_test.py"),
    ),
    Mutation(
        "a gate that moves into the batch normalization behind it",
        "graph/rules/elementwise.py",
        'slope * params["moving_mean"] * (scale - 1.0)',
        'slope * params["moving_mean"] * (1.0 - scale)',
        ("stripping", "graph/rules/normalization_test.py"),
    ),
    Mutation(
        "which channels of its inputs a concatenation needs",
        "graph/rules/merge.py",
        "source[start : start + size] = np.arange(size)",
        "source[start : start + size] = np.arange(size)[::-1]",
        ("stripping", "graph/rules/merge_test.py"),
    ),
    Mutation(
        "constants at the borders of a padded convolution",
        "graph/rules/linear.py",
        "            return constants == 0\n",
        "            return ~np.isnan(constants)\n",
        ("stripping", "graph/analyze_test.py"),
    ),
    Mutation(
        "activations that a gate must not move through",
        "activations.py",
        'for name in ("leaky_relu", "linear", "relu")',
        'for name in ("elu", "leaky_relu", "linear", "relu")',
        ("activations_test.py",),
    ),
    Mutation(
        "negative scales, which no ReLU lets through",
        "stripping/fold_gates.py",
        "np.any(scale < 0)",
        "np.any(scale < -100)",
        ("stripping/strip_graph_test.py",),
    ),
    Mutation(
        "the count of rewired connections of DEEP R",
        "connections/masked_pool.py",
        "self.rewired.assign_add(dead)",
        "self.rewired.assign(dead)",
        ("optimizers/deep_r_test.py",),
    ),
    Mutation(
        "the threshold of the prox of WGSEF",
        "regularizers/wgsef.py",
        "share_budget(self.weighted(norms), mu_d, k)",
        "share_budget(self.weighted(norms), 0.5 * mu_d, k)",
        ("regularizers/group_regularizers_test.py",),
    ),
    Mutation(
        "seeds of each replica's own",
        "replicas.py",
        "replica * self._STRIDE",
        "replica * 0",
        ("replicas_test.py",),
    ),
]


def copy_tree(folder):
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(ROOT / "setup.cfg", folder)


def run_tests(folder, tests, *options):
    """The exit status of pytest and the end of what it prints."""
    result = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-x", "-q", "--tb=line"),
            # Nothing of one break may be left for the next.
            *("-p", "no:cacheprovider"),
            *options,
            *[f"tests/{name}" for name in tests],
        ],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return result.returncode, result.stdout


def failed(output):
    """The name of the test that failed."""
    lines = [x for x in output.splitlines() if x.startswith("FAILED ")]
    return lines[-1].split()[1] if lines else output[-2000:]


def check(mutation, folder):
    """Whether the tests notice a break, with a line that says so."""
    path = folder / "l0keras" / mutation.path
    text = path.read_text()
    if text.count(mutation.line) != 1:
        return False, f"`{mutation.line}` is not once in {mutation.path}"
    path.write_text(text.replace(mutation.line, mutation.broken))
    try:
        status, output = run_tests(folder, mutation.tests)
    finally:
        path.write_text(text)
    # 1: tests failed. Others: none ran, or pytest itself failed.
    if status != 1:
        return False, f"pytest ends with {status}: {output[-2000:]}"
    return True, failed(output)


def main():
    missed = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        copy_tree(folder)
        tests = sorted({test for m in MUTATIONS for test in m.tests})
        status, output = run_tests(folder, tests, "-n", "auto")
        if status != 0:
            sys.exit(f"The tests fail without a break:\n{output[-2000:]}")
        for mutation in MUTATIONS:
            noticed, why = check(mutation, folder)
            print(f"{'red' if noticed else 'GREEN'}: {mutation.name}: {why}")
            if not noticed:
                missed.append(mutation.name)
    if missed:
        sys.exit(f"Not noticed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
