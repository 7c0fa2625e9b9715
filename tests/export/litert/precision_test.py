import importlib.util
import os

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.export import Precision
from l0keras.export import export_tflite
from l0keras.export import run_tflite
from l0keras.export import signature
from l0keras.targets import Target

pytestmark = [
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="LiteRT files are written with the TensorFlow backend",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("litert_quantizer") is None,
        reason="it is an extra",
    ),
]


def network():
    """Layers of the kinds that have weights, and some without."""
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2), name="image"),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(5, name="logits"),
        ]
    )


def images(examples=64):
    rng = np.random.default_rng(4)
    return rng.normal(size=(examples, 8, 8, 2)).astype("float32")


def weight_types(path):
    """The types of weights with several axes, by the names of layers."""
    from ai_edge_litert.tools import flatbuffer_utils
    from litert_quantizer.qtyping import TensorType

    names = {v: k for k, v in vars(TensorType).items() if isinstance(v, int)}
    model = flatbuffer_utils.read_model(str(path))
    found = {}
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        shape = () if tensor.shape is None else tensor.shape
        # Scales of blocks are in float16.
        if data is None or len(shape) < 2 or names[tensor.type] == "FLOAT16":
            continue
        for layer in ("conv", "depthwise", "hidden", "logits"):
            if f"/{layer}" in tensor.name.decode():
                found[layer] = names[tensor.type].lower()
    return found


def rounded(array, bits, axes):
    """Weights with a symmetric scale for each unit, rounded."""
    scale = np.max(np.abs(array), axes, keepdims=True) / (2 ** (bits - 1) - 1)
    return np.round(array / scale) * scale


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_are_rounded_and_the_rest_computes_in_floats(bits, tmp_path):
    model, x = network(), images()
    path = tmp_path / "model.tflite"
    rules = {"^conv$|hidden": Precision(bits, "float32")}
    file = export_tflite(model, path, rules)
    other = network()
    for name, axes in (("conv", (0, 1, 2)), ("hidden", 0)):
        kernel, bias = model.get_layer(name).get_weights()
        kernel = rounded(kernel, bits, axes)
        other.get_layer(name).set_weights([kernel, bias])
    np.testing.assert_allclose(
        run_tflite(path, x), other.predict(x, verbose=0), atol=1e-5
    )
    assert file.bytes < export_tflite(model, path).bytes
    assert file.kept == ()


def test_each_layer_has_the_precision_of_its_first_rule(tmp_path):
    path = tmp_path / "model.tflite"
    rules = {
        "^hidden$": Precision(4, block=32),
        "^conv$": Precision(4),
        "^logits$": None,
        ".": Precision(8),
    }
    file = export_tflite(network(), path, rules, images())
    # 24 inputs are in no blocks of 32.
    assert weight_types(path) == {
        "conv": "int4",
        "depthwise": "int8",
        "hidden": "float32",
        "logits": "float32",
    }
    assert file.kept == (
        "hidden: its 24 inputs are no multiple of the block, 32",
    )
    assert f"stays in floats: {file.kept[0]}" in str(file)
    assert "'^conv$': int4, dynamic, min_max" in str(file)
    assert file.quantization == rules and file.float_ops is None
    rules["^hidden$"] = Precision(4)
    rules["^logits$"] = Precision(4, block=32)
    file = export_tflite(network(), path, rules, images())
    assert file.kept == ()
    assert weight_types(path) == {
        "conv": "int4",
        "depthwise": "int8",
        "hidden": "int4",
        "logits": "int4",
    }


def test_blocks_have_scales_of_their_own(tmp_path):
    model, path = network(), tmp_path / "model.tflite"
    kernel, bias = model.get_layer("logits").get_weights()
    # Of two blocks, one has weights that are much smaller.
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(5, name="logits")]
    )
    kernel = np.concatenate([kernel, kernel * 1e-3])
    model.get_layer("logits").set_weights([kernel, bias])
    x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    x[:, :32] = 0
    errors = []
    for block in (None, 32):
        export_tflite(
            model, path, {".": Precision(4, block=block)}, x, check=False
        )
        found = run_tflite(path, x)
        errors.append(np.abs(found - model.predict(x, verbose=0)).max())
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("compute", ["int8", "int16"])
def test_integers_everywhere(compute, tmp_path):
    model, x = network(), images()
    path = tmp_path / "model.tflite"
    rules = {".": Precision(8, compute)}
    file = export_tflite(model, path, rules, x, batch_size=1, integer_only=True)
    assert file.float_ops == ()
    details = signature(path)
    assert details["inputs"]["image"]["dtype"] == compute
    assert details["outputs"]["logits"]["dtype"] == compute
    expected = model.predict(x, verbose=0)
    difference = np.abs(run_tflite(path, x) - expected).max()
    assert difference < 0.03 * np.abs(expected).max()
    assert difference == pytest.approx(file.max_difference, abs=1e-5)


def test_integers_in_some_layers(tmp_path):
    model, x = network(), images()
    path = tmp_path / "model.tflite"
    rules = {"hidden|logits": None, ".": Precision(8, "int8")}
    file = export_tflite(model, path, rules, x)
    details = signature(path)
    assert details["inputs"]["image"]["dtype"] == "float32"
    # Of any number of examples.
    assert details["outputs"]["logits"] == {
        "dtype": "float32",
        "shape": (None, 5),
    }
    in_floats = " ".join(file.float_ops)
    assert "layer 'hidden'" in in_floats
    assert "layer 'conv'" not in in_floats
    with pytest.raises(RuntimeError, match="computes in floats"):
        export_tflite(model, path, rules, x, integer_only=True)
    assert run_tflite(path, x).shape == (64, 5)


def test_loops_have_no_ranges(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6, 5)),
            layers.LSTM(16, name="lstm"),
            layers.Dense(3, name="logits"),
        ]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6, 5)).astype("float32")
    path = tmp_path / "model.tflite"
    file = export_tflite(
        model,
        path,
        {"^lstm$": Precision(8, "int8"), ".": Precision(8)},
        x,
    )
    assert file.kept == ("lstm/lstm_cell: no ranges are measured in loops",)
    floats = export_tflite(model, path)
    small = export_tflite(model, path, {".": Precision(8)}, x)
    assert small.kept == ()
    assert small.bytes < file.bytes < floats.bytes


def test_gptq_is_nearer_than_rounding_on_its_examples(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((48,)), layers.Dense(24, name="logits")]
    )
    rng = np.random.default_rng(1)
    # Inputs that go together, so that one weight can make up for another.
    x = rng.normal(size=(128, 6)) @ rng.normal(size=(6, 48))
    x = x.astype("float32")
    expected = model.predict(x, verbose=0)
    errors = []
    for method in ("min_max", "gptq"):
        path = tmp_path / f"{method}.tflite"
        export_tflite(model, path, {".": Precision(4, method=method)}, x)
        errors.append(np.square(run_tflite(path, x) - expected).mean())
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"weights": 3}, "`weights` must be one of 4, 8"),
        ({"weights": True}, "`weights` must be"),
        ({"compute": "float16"}, "`compute` must be one of 'dynamic'"),
        ({"block": 16}, "`block` must be one of None, 32"),
        ({"block": 32}, "`block` must be None but for weights=4"),
        ({"method": "best"}, "`method` must be one of 'min_max'"),
    ],
)
def test_precisions_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Precision(**arguments)


@pytest.mark.parametrize(
    "rules, message",
    [
        ({}, "must be None for floats alone"),
        ({"conv": None}, "must be None for floats alone"),
        ({"conv": "int8"}, "Received: 'int8' for 'conv'"),
        ({"(": Precision()}, "must have regular expressions"),
        ({"fc": Precision()}, "Received: 'fc'. Layers are: "),
        ({".": Precision(compute="int8")}, "`representative_data` must be"),
        ({".": Precision(method="gptq")}, "`representative_data` must be"),
    ],
)
def test_rules_that_are_refused(rules, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_tflite(network(), tmp_path / "model.tflite", rules)
    assert os.listdir(tmp_path) == []


def test_rules_that_can_do_nothing(tmp_path):
    rules = {"depthwise": Precision(4)}
    with pytest.raises(RuntimeError, match="depthwise: there is no DEPTHWISE"):
        export_tflite(network(), tmp_path / "model.tflite", rules)
    assert os.listdir(tmp_path) == []


def test_other_arguments_that_are_refused(tmp_path, monkeypatch):
    path, rules = tmp_path / "model.tflite", {".": Precision()}
    with pytest.raises(ValueError, match="`sparse_encoding` must be False"):
        export_tflite(network(), path, rules, sparse_encoding=True)
    with pytest.raises(ValueError, match="`integer_only` must be False"):
        export_tflite(network(), path, rules, integer_only=True)
    with pytest.raises(ValueError, match="must be a name or None"):
        Target("bytes", 0.5, quantization=rules)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"l0keras\[quantizer\]"):
        export_tflite(network(), path, rules)
    assert l0keras.export_tflite(network(), path).kept == ()
