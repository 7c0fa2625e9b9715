"""The public face: what `import l0keras` offers, and what it costs."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest

import l0keras

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = (
    "callbacks",
    "export",
    "graph",
    "layers",
    "models",
    "optimizers",
    "regularizers",
    "targets",
)


@pytest.mark.parametrize("name", ["", *PACKAGES])
def test_all_names_are_there_and_sorted(name):
    module = importlib.import_module(f"l0keras.{name}".rstrip("."))
    assert module.__all__ == sorted(module.__all__)
    for entry in module.__all__:
        assert getattr(module, entry) is not None


def test_graph_shows_what_users_need():
    assert set(l0keras.graph.__all__) == {
        "Graph",
        "Rule",
        "channel_graph",
        "channel_groups",
        "register_channel_rule",
    }


def test_former_names_still_work():
    for name in l0keras.graph._FORMER:
        assert getattr(l0keras.graph, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        l0keras.graph.nothing
    callbacks = l0keras.callbacks
    assert callbacks.TerminateOnNaN is callbacks.RaiseOnNaN


def test_the_version_has_one_source():
    assert re.fullmatch(r"\d+\.\d+\.\d+", l0keras.__version__)
    assert "version = attr: l0keras.version" in (ROOT / "setup.cfg").read_text()


def test_no_package_bears_the_name_of_a_public_function():
    import l0keras.export.tflite as tflite
    import l0keras.placement.sparsify as sparsify
    import l0keras.reporting.report as report
    import l0keras.stripping.plan as plan
    import l0keras.stripping.strip as strip

    assert report.report is l0keras.report
    assert sparsify.sparsify is l0keras.sparsify
    assert strip.strip is l0keras.strip
    assert callable(plan.plan)
    assert callable(tflite.export_tflite)
    for name in l0keras.__all__:
        if callable(getattr(l0keras, name)):
            assert not (ROOT / "l0keras" / name).exists()


def test_programs_import_nothing_private():
    allowed = {"l0keras", *(f"l0keras.{name}" for name in PACKAGES)}
    for path in sorted((ROOT / "trainers").rglob("*.py")):
        found = re.findall(
            r"^\s*(?:from|import) (l0keras[\w.]*)", path.read_text(), re.M
        )
        assert set(found) <= allowed, path


CORE_ALONE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ImportError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Missing())

import keras
import numpy as np
import l0keras

dense = [keras.layers.Dense(4), keras.layers.Dense(2)]
model = keras.Sequential([keras.Input((8,)), *dense])
gated = l0keras.sparsify(model, l0=0.1)
gates = l0keras.gates_of(gated)
gates[-1].log_alpha.assign([-9.0, 9.0, 9.0, -9.0])
small = l0keras.strip(gated)
x = np.ones((3, 8), "float32")
pair = [m.predict(x, verbose=0) for m in (gated, small)]
np.testing.assert_allclose(*pair, atol=1e-6)
assert l0keras.report(gated, small).total["params"][1] < model.count_params()
for call, extra in (
    (lambda: l0keras.export.measure_latency("x.tflite"), "litert"),
    (lambda: l0keras.report(gated, small).plot(), "plot"),
):
    try:
        call()
    except ImportError as error:
        assert f"l0keras[{{extra}}]" in str(error), error
    else:
        raise AssertionError(extra)
"""


def test_the_core_needs_keras_numpy_and_scipy_alone():
    """On JAX, where TensorFlow is not installed."""
    pytest.importorskip("jax")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("once is enough")
    missing = {
        *("ai_edge_litert", "matplotlib", "sklearn", "tensorboard"),
        *("tensorflow", "tensorflow_datasets", "tf_keras"),
        "tensorflow_model_optimization",
    }
    subprocess.run(
        [sys.executable, "-c", CORE_ALONE.format(missing=missing)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
