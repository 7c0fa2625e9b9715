import gzip
import os
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.export import run_tflite
from l0keras.export.litert.run_tflite import open_tflite
from l0keras.export.litert.source import KerasSource
from l0keras.export.litert.unsupported import tflite_ops
from l0keras.layers import L0Conv2D
from l0keras.layers import L0Dense

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


def gated_model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L0Conv2D(6, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            L0Dense(10, activation="sigmoid"),
            layers.Dropout(0.5),
            L0Dense(3, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(0)
    for gate in l0keras.gates_of(model):
        shape = gate.log_alpha.shape
        gate.log_alpha.assign(
            np.where(rng.random(shape) < 0.5, -5.0, rng.normal(size=shape))
        )
    return model


def test_the_file_computes_what_the_gated_model_does(tmp_path):
    model = gated_model()
    path = tmp_path / "model.tflite"
    file = l0keras.export_tflite(model, path)
    x = np.random.default_rng(1).normal(size=(5, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(
        run_tflite(path, x), model(x, training=False), atol=1e-5
    )
    assert file.path == str(path)
    assert file.bytes == path.stat().st_size
    assert file.gzip_bytes == len(gzip.compress(path.read_bytes(), mtime=0))
    assert list(file.latency_us)[0] == 1
    assert all(0 < time < 1e6 for time in file.latency_us.values())
    assert 0 <= file.max_difference <= 1e-5
    assert file.top1_agreement == 1.0
    assert f"{file.bytes:,} bytes" in str(file)
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_several_inputs_and_outputs(tmp_path):
    inputs = {
        "zoo": keras.Input((4,), name="zoo"),
        "ant": keras.Input((3,), name="ant"),
    }
    x = layers.Concatenate()([L0Dense(5)(inputs["zoo"]), inputs["ant"]])
    outputs = [
        layers.Dense(2, name="zebra")(x),
        layers.Dense(1, name="auk")(x),
        x,
    ]
    model = keras.Model(inputs, outputs)
    path = tmp_path / "model.tflite"
    l0keras.export_tflite(model, path)
    rng = np.random.default_rng(1)
    data = {
        "zoo": rng.normal(size=(7, 4)).astype("float32"),
        "ant": rng.normal(size=(7, 3)).astype("float32"),
    }
    expected = model(data, training=False)
    got = run_tflite(path, data, batch_size=3)
    names = ["zebra", "auk", model.output_names[2]]
    assert sorted(got) == sorted(names)
    for name, other in zip(names, expected, strict=True):
        np.testing.assert_allclose(got[name], other, atol=1e-5)
    details = open_tflite(path).get_signature_runner().get_input_details()
    assert set(details) == {"zoo", "ant"}


def test_outputs_are_named_by_the_keys_of_a_dictionary(tmp_path):
    inputs = keras.Input((3,), name="image")
    outputs = {
        "probability": layers.Dense(2, name="head")(inputs),
        "box": layers.Dense(4)(inputs),
    }
    path = tmp_path / "model.tflite"
    model = keras.Model(inputs, outputs)
    l0keras.export_tflite(model, path)
    x = np.random.default_rng(1).normal(size=(7, 3)).astype("float32")
    got = run_tflite(path, x)
    for name, expected in model(x).items():
        np.testing.assert_allclose(got[name], expected, atol=1e-5)


def test_an_output_that_comes_twice_has_two_names(tmp_path):
    inputs = keras.Input((3,))
    y = layers.Dense(2, name="head")(inputs)
    path = tmp_path / "model.tflite"
    l0keras.export_tflite(keras.Model(inputs, [y, y]), path)
    outputs = run_tflite(path, np.ones((1, 3), "float32"))
    assert sorted(outputs) == ["head", "head_1"]


def test_integer_inputs(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(5, 3),
            layers.Flatten(),
            L0Dense(2),
        ]
    )
    file = l0keras.export_tflite(model, tmp_path / "model.tflite")
    assert file.max_difference <= 1e-5


def convert_instead(monkeypatch, other):
    """Exports write another model than the one that they were given."""
    convert = KerasSource.convert
    monkeypatch.setattr(
        KerasSource,
        "convert",
        lambda self, *args: convert(KerasSource(other), *args),
    )


def test_a_file_that_strays_is_not_written(tmp_path, monkeypatch):
    models = []
    for _ in range(2):
        inputs = keras.Input((3,))
        outputs = layers.Dense(2, name="head")(inputs)
        models.append(keras.Model(inputs, outputs))
        inputs.name = "x"
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the last good file")
    convert_instead(monkeypatch, models[1])
    with pytest.raises(RuntimeError, match="differs from the model by"):
        l0keras.export_tflite(models[0], path)
    assert path.read_bytes() == b"the last good file"
    assert os.listdir(tmp_path) == ["model.tflite"]
    file = l0keras.export_tflite(models[0], path, check=False)
    assert file.bytes == path.stat().st_size
    assert file.max_difference is None and file.latency_us == {}


@pytest.mark.parametrize("off, passes", [(1e-6, True), (1e-3, False)])
def test_rounding_errors_may_grow_as_in_the_model(
    off, passes, tmp_path, monkeypatch
):
    inputs = keras.Input((3,), name="x")
    x = layers.Dense(2, use_bias=False)(inputs)
    # Makes much of small differences.
    model = keras.Model(inputs, keras.ops.sin(1000.0 * x))
    other = keras.models.clone_model(model)
    other.set_weights([(1.0 + off) * w for w in model.get_weights()])
    convert_instead(monkeypatch, other)
    path = tmp_path / "model.tflite"
    if passes:
        assert l0keras.export_tflite(model, path).max_difference > 1e-4
    else:
        with pytest.raises(RuntimeError, match="differs from the model by"):
            l0keras.export_tflite(model, path)


def test_a_failed_conversion_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(self, *args):
        raise OSError("disk full")

    model = gated_model()
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the last good file")
    monkeypatch.setattr(KerasSource, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        l0keras.export_tflite(model, path)
    assert path.read_bytes() == b"the last good file"
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_outputs_that_are_not_finite_are_refused(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2), layers.Rescaling(float("nan"))]
    )
    with pytest.raises(RuntimeError, match="differs from the model by nan"):
        l0keras.export_tflite(model, tmp_path / "model.tflite")


def test_nothing_is_printed_and_state_comes_back(tmp_path, capfd):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    filters = list(warnings.filters)
    l0keras.export_tflite(model, tmp_path / "model.tflite")
    assert capfd.readouterr() == ("", "")
    assert warnings.filters == filters
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


@pytest.mark.parametrize(
    "name", ["model.lite", "missing/model.tflite", "folder.tflite"]
)
def test_the_path_is_checked_first(tmp_path, name):
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(ValueError, match="Argument `path`"):
        l0keras.export_tflite("no model", tmp_path / name)


def test_models_without_a_graph_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Argument `model`"):
        l0keras.export_tflite("no model", tmp_path / "model.tflite")


def test_weights_that_are_not_finite_are_named(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="fc")])
    model.layers[0].bias.assign([0.0, float("nan")])
    with pytest.raises(ValueError, match="infinity in '.*fc/bias'"):
        l0keras.export_tflite(model, tmp_path / "model.tflite")
    assert not os.listdir(tmp_path)


class Erf(layers.Layer):
    """Something that LiteRT does not have."""

    def call(self, x):
        return keras.ops.erf(x)


def test_operations_that_litert_does_not_have_are_named(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2), Erf(name="bell")]
    )
    with pytest.raises(RuntimeError, match="operation Erf of layer 'bell'"):
        l0keras.export_tflite(model, tmp_path / "model.tflite")
    assert not os.listdir(tmp_path)


def test_operations_of_a_graph_are_named_too(tmp_path):
    inputs = keras.Input((3,))
    x = keras.src.ops.math.Erf(name="bell")(layers.Dense(2)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(RuntimeError, match="operation Erf of layer 'bell'"):
        l0keras.export_tflite(model, tmp_path / "model.tflite")


def test_strings_are_refused(tmp_path):
    inputs = keras.Input((), dtype="string", name="word")
    words = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    model = keras.Model(inputs, layers.Dense(2)(words(inputs)))
    with pytest.raises(ValueError, match="numbers.*input 'word' of strings"):
        l0keras.export_tflite(model, tmp_path / "model.tflite")


def recurrent(steps, layer=None):
    return keras.Sequential(
        [
            keras.Input((steps, 3)),
            layer or layers.LSTM(2, name="memory"),
            layers.Dense(2),
        ]
    )


@pytest.mark.parametrize(
    "make, quantization, steps",
    [
        (lambda: layers.LSTM(2, return_sequences=True), None, 5),
        (lambda: layers.LSTM(2), "dynamic", None),
        (lambda: layers.GRU(2, reset_after=False), "float16", None),
        (lambda: layers.SimpleRNN(2), "dynamic", 5),
        (lambda: layers.Bidirectional(layers.LSTM(2)), None, None),
        (lambda: recurrent(5, layers.LSTM(2)), None, 5),
        (lambda: layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)]), None, 5),
    ],
    ids=[
        "sequences",
        "LSTM",
        "GRU",
        "Simple",
        "Bidirectional",
        "nested",
        "two",
    ],
)
def test_recurrent_layers_loop(make, quantization, steps, tmp_path):
    path = tmp_path / "model.tflite"
    model = recurrent(steps, make())
    file = l0keras.export_tflite(model, path, quantization)
    assert file.max_difference < (1e-5 if quantization is None else 0.05)
    assert "WHILE" in {op for op, _ in tflite_ops(open_tflite(path))}
    for layer in model._flatten_layers():
        assert "inner_loop" not in vars(layer)
    # Many examples, and another number of steps where that is free.
    x = np.random.default_rng(1).normal(size=(3, steps or 9, 3))
    x = x.astype("float32")
    np.testing.assert_allclose(
        run_tflite(path, x),
        model.predict(x, verbose=0),
        atol=1e-5 if quantization is None else 0.05,
    )


def test_a_loop_makes_a_smaller_file(tmp_path):
    path = tmp_path / "model.tflite"
    model = recurrent(40)
    x = np.random.default_rng(1).normal(size=(32, 40, 3)).astype("float32")
    loop = l0keras.export_tflite(model, path, check=False)
    # Loops compute in floats.
    file = l0keras.export_tflite(model, path, "int8", x)
    assert "WHILE" not in {op for op, _ in tflite_ops(open_tflite(path))}
    assert file.max_difference < 0.05
    assert loop.bytes < file.bytes / 2


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_loops_know_masks(zeros, backwards, tmp_path):
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(4, 3, mask_zero=True)(inputs)
    layer = layers.GRU(
        2,
        return_sequences=True,
        zero_output_for_mask=zeros,
        go_backwards=backwards,
    )
    model = keras.Model(inputs, layer(x))
    tokens = np.random.default_rng(0).integers(0, 4, (32, 6)).astype("int32")
    tokens[:, :2] = tokens[:, -1:] = 0
    file = l0keras.export_tflite(model, tmp_path / "m.tflite", None, tokens)
    assert file.max_difference < 1e-5


def test_integers_need_a_number_of_steps(tmp_path):
    x = np.zeros((32, 5, 3), "float32")
    with pytest.raises(ValueError, match="steps .*'int8'.*'memory'"):
        l0keras.export_tflite(recurrent(None), tmp_path / "m.tflite", "int8", x)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_can_be_fixed(batch_size, tmp_path):
    model = gated_model()
    path = tmp_path / "model.tflite"
    x = np.random.default_rng(1).normal(size=(64, 8, 8, 1)).astype("float32")
    file = l0keras.export_tflite(model, path, "int8", x, batch_size=batch_size)
    details = open_tflite(path).get_signature_runner().get_input_details()
    (signature,) = [one["shape_signature"] for one in details.values()]
    assert list(signature) == [batch_size, 8, 8, 1]
    # 64 is no multiple of 3.
    expected = model(x, training=False)
    np.testing.assert_allclose(run_tflite(path, x, 7), expected, atol=0.05)
    assert file.max_difference < 0.05
    kinds = {op for op, _ in tflite_ops(open_tflite(path))}
    # Nothing is left to find out about shapes.
    assert not kinds & {"SHAPE", "PACK", "STRIDED_SLICE"}


def test_a_graph_with_a_fixed_batch(tmp_path):
    inputs = keras.Input(batch_shape=(2, 6, 6, 1))
    x = layers.Conv2D(4, 3)(inputs)
    model = keras.Model(inputs, keras.ops.reshape(x, (2, 16, 4)))
    path = tmp_path / "model.tflite"
    # 33 are no multiple of 2.
    x = np.random.default_rng(1).normal(size=(33, 6, 6, 1)).astype("float32")
    for arguments in ({}, {"batch_size": 2}):
        file = l0keras.export_tflite(model, path, None, x, **arguments)
        assert file.max_difference < 1e-5
        shape = l0keras.export.signature(path)["inputs"][inputs.name]["shape"]
        assert shape == (2, 6, 6, 1)
    with pytest.raises(ValueError, match="batch_size=1, and .* batches of 2"):
        l0keras.export_tflite(model, path, batch_size=1)


def text_model():
    inputs = keras.Input((None,), dtype="int32", name="text")
    x = layers.Embedding(20, 3)(inputs)
    x = layers.Conv1D(4, 7, strides=3, activation="relu")(x)
    x = layers.Conv1D(4, 7, strides=3, activation="relu")(x)
    return keras.Model(inputs, layers.GlobalMaxPooling1D()(x))


def test_text_of_any_length(tmp_path):
    path = tmp_path / "model.tflite"
    model = text_model()
    rng = np.random.default_rng(0)
    # Nothing is left of fewer than 25 tokens.
    batches = [rng.integers(0, 20, (1, 60 + i % 3)) for i in range(32)]
    file = l0keras.export_tflite(model, path, None, batches)
    assert file.max_difference < 1e-5
    assert file.sample_shape == (60,)
    assert "example of shape (60,)" in str(file)
    file = l0keras.export_tflite(model, path, sample_shape=(77,))
    assert file.sample_shape == (77,)
    assert l0keras.export_tflite(model, path).sample_shape == (32,)
    for shape in ((77, 3), (0,), {"other": (77,)}, "no shape", 5):
        with pytest.raises(ValueError, match="Argument `sample_shape`"):
            l0keras.export_tflite(model, path, sample_shape=shape)


def test_names_stay_before_and_after_strip(tmp_path):
    inputs = [
        keras.Input((8,), name="left ear"),
        keras.Input((8,), name="right-ear."),
        keras.Input((2,), name="2nd"),
    ]
    x = L0Dense(6, name="both")(layers.Concatenate()(inputs[:2]))
    outputs = {
        "volume (dB)": layers.Dense(1)(x),
        "a b": layers.Dense(2)(layers.Concatenate()([x, inputs[2]])),
    }
    gated = keras.Model(inputs, outputs)
    (gate,) = l0keras.gates_of(gated)
    gate.log_alpha.assign(np.where(np.arange(16) % 2, 5.0, -5.0))
    path = tmp_path / "model.tflite"
    for model in (gated, l0keras.strip(gated)):
        l0keras.export_tflite(model, path)
        found = l0keras.export.signature(path)
        assert set(found["inputs"]) == {"left ear", "right-ear.", "2nd"}
        assert set(found["outputs"]) == set(outputs)


def test_batch_sizes_below_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`batch_size` must be an integer"):
        l0keras.export_tflite("m", tmp_path / "m.tflite", batch_size=0)


def test_operations_that_cannot_be_quantized_are_named(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2),
            layers.Activation("softsign", name="sign"),
            layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    with pytest.raises(RuntimeError, match="operation DIV of layer 'sign'"):
        l0keras.export_tflite(model, tmp_path / "m.tflite", "int16x8", x)
