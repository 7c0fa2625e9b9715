"""What only a process of its own can show."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.export.bridge.tfmot import LEGACY
from l0keras.layers import L0Conv2D
from l0keras.layers import L0Dense
from tests.stripping.random_graph import outputs
from tests.stripping.random_graph import random_graph
from tests.stripping.random_graph import random_inputs

ROOT = pathlib.Path(__file__).parents[2]

LOAD = """
import pathlib, sys
sys.modules["l0keras"] = None
import keras, numpy as np
from tests.stripping.flip import Flip
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    data = np.load(path.with_suffix(".npz"))
    model = keras.saving.load_model(path)
    x = [data[name] for name in data if name.startswith("x")]
    x = keras.tree.pack_sequence_as(model.input, x)
    y = keras.tree.flatten(model(x, training=False))
    for i, got in enumerate(y):
        got, expected = keras.ops.convert_to_numpy(got), data[f"y{i}"]
        scale = max(1.0, np.abs(expected).max())
        if not np.abs(got - expected).max() <= 1e-5 * scale:
            sys.exit(f"{path.name}: output {i} differs")
    print(path.name)
"""


def of_all_kinds(rng):
    """Gated layers, a gate alone, and an operation that is not cut."""
    inputs = keras.Input((6, 6, 3))
    x = L0Conv2D(8, 3, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("gelu")(x)
    x = l0keras.HardConcreteGate()(x)
    x = layers.Softmax()(x)
    x = layers.Flatten()(x)
    model = keras.Model(inputs, L0Dense(4)(x))
    for weight in model.get_layer("batch_normalization").weights:
        weight.assign(rng.uniform(0.5, 2.0, weight.shape))
    for gate in l0keras.gates_of(model):
        size = gate.log_alpha.shape[0]
        log_alpha = rng.uniform(-2.0, 4.0, size)
        log_alpha[rng.permutation(size)[: size // 2]] = -5.0
        gate.log_alpha.assign(log_alpha)
    return model


# A softmax of one unit, which Keras takes for a slip, may come up.
@pytest.mark.filterwarnings("ignore:You are using a softmax")
def test_stripped_models_load_without_this_library(tmp_path):
    saved = []

    def save(model, rng):
        x = random_inputs(model, rng)
        arrays = {f"y{i}": y for i, y in enumerate(outputs(model, x))}
        for i, array in enumerate(keras.tree.flatten(x)):
            arrays[f"x{i}"] = array
        path = tmp_path / f"{len(saved):03}.keras"
        l0keras.strip(model).save(path)
        np.savez(path.with_suffix(".npz"), **arrays)
        saved.append(path.name)

    rng = np.random.default_rng(0)
    save(of_all_kinds(rng), rng)
    for seed in range(15):
        keras.utils.clear_session(free_memory=False)
        save(*random_graph(seed))
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, tmp_path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert loaded.stdout.split() == saved and len(saved) == 16


FRESH = """
import os
import warnings

warnings.simplefilter("error", FutureWarning)
import keras
import numpy as np
import tensorflow as tf

import l0keras
import sys

assert "tf_keras" not in sys.modules
l0keras.export.bridge.tfmot.import_tfmot()
assert os.environ.get("TF_USE_LEGACY_KERAS") is None
assert tf.keras.__version__.startswith("3."), tf.keras.__version__
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
model.compile("adam", "mse")
before = model.get_weights()[0]
model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
assert np.any(model.get_weights()[0] != before)
"""


def test_keras_3_stays_what_it_is_with_tfmot():
    environment = {k: v for k, v in os.environ.items() if k != LEGACY}
    result = subprocess.run(
        [sys.executable, "-c", FRESH],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
