import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.export import run_tflite
from l0keras.export import signature

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


def speech(steps=6, stateful=False):
    """As for keywords in speech: frames in, a class out."""
    return keras.Sequential(
        [
            keras.Input(batch_shape=(None, steps, 3), name="frames")
            if not stateful
            else keras.Input(batch_shape=(1, steps, 3), name="frames"),
            layers.Dense(5, activation="relu"),
            layers.BatchNormalization(),
            keras.Sequential(
                [layers.GRU(4, return_sequences=True, name="low")]
            ),
            layers.LSTM(4, name="high", stateful=stateful),
            layers.Dense(2, name="word"),
        ]
    )


def frames(examples=32, steps=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(examples, steps, 3)).astype("float32")


STATES = ("low_state_0", "high_state_0", "high_state_1")


@pytest.mark.parametrize(
    "quantization, steps, difference",
    [(None, 6, 1e-5), (None, None, 1e-5), ("int8", 6, 0.1)],
)
def test_steps_make_the_whole(quantization, steps, difference, tmp_path):
    path = tmp_path / "step.tflite"
    model = speech(steps)
    file = l0keras.export_tflite(
        model, path, quantization, frames(), streaming=True
    )
    assert file.max_difference < difference
    assert file.states == STATES
    assert file.sample_shape["frames"] == (1, 3)
    assert "makes one step, with low_state_0" in str(file)
    found = signature(path)
    assert set(found["inputs"]) == {"frames", *STATES}
    assert set(found["outputs"]) == {"word", *STATES}
    # As a device does it.
    x = frames(4)
    after = {name: np.zeros((4, 4), "float32") for name in STATES}
    for time in range(6):
        after = run_tflite(path, {"frames": x[:, time : time + 1], **after})
        word = after.pop("word")
    np.testing.assert_allclose(
        word, model.predict(x, verbose=0), atol=difference
    )


def test_stateful_models_are_streamed(tmp_path):
    path = tmp_path / "step.tflite"
    model = speech(stateful=True)
    model.predict(frames(1), verbose=0)
    states = model.layers[3].states
    before = [keras.ops.convert_to_numpy(state) for state in states]
    with pytest.raises(ValueError, match="'high' with stateful=True"):
        l0keras.export_tflite(model, path)
    file = l0keras.export_tflite(model, path, streaming=True)
    assert file.max_difference < 1e-5
    assert np.abs(before).max() > 0
    after = [keras.ops.convert_to_numpy(state) for state in states]
    np.testing.assert_array_equal(after, before)


def test_any_number_of_steps_has_no_integers(tmp_path):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, keras.layers.GRU(2, name="units")(inputs))
    with pytest.raises(ValueError, match="any number of steps.*'units'"):
        l0keras.export_tflite(
            model, tmp_path / "m.tflite", "int8", np.ones((40, 5, 3), "float32")
        )


def test_outputs_of_each_step_and_masks(tmp_path):
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(4, 3, mask_zero=True)(inputs)
    x = layers.LSTM(5, return_sequences=True)(x)
    model = keras.Model(inputs, [layers.Dense(6)(x), x])
    tokens = np.random.default_rng(0).integers(0, 4, (32, 6)).astype("int32")
    file = l0keras.export_tflite(
        model, tmp_path / "step.tflite", None, tokens, streaming=True
    )
    assert file.max_difference < 1e-5


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: layers.Bidirectional(layers.LSTM(2), name="both"), "both"),
        (lambda: layers.GRU(2, go_backwards=True, name="back"), "back"),
        (lambda: layers.Conv1D(2, 3, padding="same", name="conv"), "conv"),
        (lambda: layers.AveragePooling1D(2, name="pool"), "pool"),
        (lambda: layers.GlobalAveragePooling1D(name="mean"), "mean"),
        (lambda: layers.Flatten(name="flat"), "flat"),
    ],
)
def test_layers_that_mix_steps_are_named(make, name, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.GRU(3, return_sequences=True),
            make(),
            layers.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match=f"several steps .*'{name}'"):
        l0keras.export_tflite(model, tmp_path / "m.tflite", streaming=True)


def test_only_recurrent_models_are_streamed(tmp_path):
    model = keras.Sequential([keras.Input((6, 3)), layers.Dense(2)])
    with pytest.raises(ValueError, match="`streaming` must be False"):
        l0keras.export_tflite(model, tmp_path / "m.tflite", streaming=True)
