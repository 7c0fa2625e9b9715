"""Files of integers whose ranges LiteRT's own converter measures badly."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.export.litert.run_tflite import open_tflite

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


def difference(model, path, quantization="int8"):
    """Writes and checks a file; the difference as a share of the outputs."""
    shape = (64, *model.input_shape[1:])
    data = np.random.default_rng(0).normal(size=shape)
    # Far enough from 0 that no rounding changes a sign.
    data = (np.round(2 * data) / 2 + 0.25).astype("float32")
    file = l0keras.export_tflite(model, path, quantization, data)
    return file.max_difference / np.abs(model.predict(data, verbose=0)).max()


def scale_of(path, name):
    """The scale of the tensor whose name ends so."""
    (found,) = [
        details["quantization"][0]
        for details in open_tflite(path, delegates=False).get_tensor_details()
        if details["name"].endswith(name)
    ]
    return found


@pytest.mark.parametrize("quantization", ["int8", "int16x8"])
def test_dead_units_leave_the_rest_alive(quantization, tmp_path):
    inputs = keras.Input((8,))
    x = layers.Dense(6, activation="relu")(inputs)
    dead = layers.Dense(6, activation="relu", name="dead")
    gates = layers.Dense(6, activation="sigmoid", name="gates")
    model = keras.Model(inputs, layers.Dense(3)(x * gates(dead(x))))
    dead.bias.assign(np.full(6, -100))
    gates.bias.assign(np.random.default_rng(0).normal(size=6))
    assert difference(model, tmp_path / "m.tflite", quantization) < 0.05


def added(scores, x):
    """A mask as own layers have it."""
    future = 1 - np.tril(np.ones((6, 6), "float32"))
    return scores + ops.convert_to_tensor(-1e9 * future)


def multiplied(scores, x):
    masked = ops.cast(x[:, None, :, 0] > 1, "float32")
    return scores - masked * 1e9


def attention(mask):
    def build(x):
        scores = mask(ops.matmul(x, ops.transpose(x, (0, 2, 1))), x)
        return ops.matmul(ops.softmax(scores), x)

    return build


@pytest.mark.parametrize(
    "build",
    [
        lambda x: layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True),
        lambda x: layers.Attention()([x, x], use_causal_mask=True),
        attention(added),
        attention(multiplied),
    ],
    ids=["selected", "taken away", "added", "multiplied"],
)
def test_masks_leave_scores_apart(build, tmp_path):
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, build(inputs))
    for weight in model.weights:
        if "kernel" in weight.path:
            weight.assign(2 * weight)
    assert difference(model, tmp_path / "m.tflite") < 0.15


def test_a_range_is_not_that_of_what_takes_its_place(tmp_path):
    inputs = keras.Input((16,))
    small = layers.Dense(16, activation="tanh", name="small")(inputs)
    large = 1000 * layers.Dense(16)(inputs)
    model = keras.Model(inputs, layers.Dense(4)(ops.sin(small) + large))
    path = tmp_path / "m.tflite"
    difference(model, path)
    assert scale_of(path, "sin/Sin") == 0
    assert scale_of(path, "tfl.quantize") < 0.01
