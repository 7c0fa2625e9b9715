import collections
import sys

import keras
import numpy as np
import pytest
from keras import layers

from l0keras.export import cluster
from l0keras.export import quantize_aware
from l0keras.export import run_tflite
from l0keras.export.litert.quiet import quiet
from tests.export.bridge.tfmot_checks import assert_untouched
from tests.export.bridge.tfmot_checks import data
from tests.export.bridge.tfmot_checks import kernels
from tests.export.bridge.tfmot_checks import loss
from tests.export.bridge.tfmot_checks import network
from tests.export.bridge.tfmot_checks import tensorflow_only

pytestmark = tensorflow_only


def tflite(model, path):
    import tensorflow as tf

    with quiet():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        path.write_bytes(converter.convert())
    return path


def operations_of(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    return collections.Counter(
        details["op_name"] for details in interpreter._get_ops_details()
    )


def quantized_kernels(model):
    found = {}
    for layer in model.layers:
        for weight, quantizer, variables in getattr(layer, "_weight_vars", []):
            quantized = quantizer(weight, False, weights=variables).numpy()
            found[layer.name] = quantized
    return found


def test_a_file_of_integers(tmp_path):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    x, y = data(640)
    aware = quantize_aware(model, (x, y), epochs=1, loss=loss(), verbose=0)
    path = tflite(aware, tmp_path / "model.tflite")
    output = run_tflite(path, x[:8])
    expected = aware(x[:8], training=False).numpy()
    # The file rounds to one of 256 values between -6 and 6, now and then
    # otherwise than the emulation does.
    np.testing.assert_allclose(output, expected, rtol=0, atol=0.1)
    assert np.std(expected) > 0.05
    operations = operations_of(path)
    assert operations["QUANTIZE"] == operations["DEQUANTIZE"] == 1
    assert operations["CONV_2D"] == operations["FULLY_CONNECTED"] == 1
    assert operations["MUL"] == 0


def test_the_model_is_left_alone():
    aware = assert_untouched(
        lambda model: quantize_aware(model, data(), verbose=0)
    )
    assert aware.input_names == ["image"]
    assert aware.output_names == ["logits"]


@pytest.mark.slow
def test_training_reduces_the_loss():
    x, y = data()
    aware = quantize_aware(
        network(),
        (x, y),
        epochs=5,
        optimizer=keras.optimizers.Adam(1e-2),
        loss=loss(),
        verbose=0,
    )
    once = quantize_aware(
        network(), (x, y), optimizer="sgd", loss=loss(), verbose=0
    )
    assert aware.evaluate(x, y, verbose=0) < once.evaluate(x, y, verbose=0)


def test_large_activations_are_not_cut_off(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(32, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(3),
        ]
    )
    for layer in model.layers:
        layer.kernel.assign(8 * layer.kernel)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = model.predict(x, verbose=0)
    assert np.abs(y).max() > 100
    # Two batches, with which nothing is learned.
    aware = quantize_aware(
        model,
        (x, y),
        optimizer=keras.optimizers.SGD(1e-9),
        loss=keras.losses.MeanSquaredError(),
        verbose=0,
    )
    difference = np.abs(aware.predict(x, verbose=0) - y).max()
    assert difference < 0.05 * np.abs(y).max()


def test_layers_with_other_activations_are_quantized():
    aware = quantize_aware(network(), data(), loss=loss(), verbose=0)
    kinds = {layer.name: type(layer).__name__ for layer in aware.layers}
    assert kinds["dense"] == "QuantizeWrapperV2"
    assert kinds["dense_activation"] == "QuantizeWrapperV2"
    wrapped = aware.get_layer("dense").layer
    assert wrapped.activation.activation.__name__ == "linear"


@pytest.mark.parametrize("clusters", [False, True])
def test_zeros_are_kept(clusters):
    model = network()
    zeros = {}
    for name, kernel in kernels(model).items():
        zeros[name] = np.abs(kernel) < 0.2
        values = np.round(4 * kernel) / 4 if clusters else kernel
        model.get_layer(name).kernel.assign(np.where(zeros[name], 0, values))
    aware = quantize_aware(
        model,
        data(),
        optimizer=keras.optimizers.SGD(0.1),
        loss=loss(),
        preserve_sparsity=True,
        preserve_clusters=clusters,
        verbose=0,
    )
    found = quantized_kernels(aware)
    for name in zeros:
        assert np.all(found[name][zeros[name]] == 0)
        assert 0 < np.mean(found[name] != 0)


def test_clusters_are_kept():
    model = cluster(
        network(), data(), number_of_clusters=4, loss=loss(), verbose=0
    )
    aware = quantize_aware(
        model,
        data(),
        optimizer=keras.optimizers.SGD(0.1),
        loss=loss(),
        preserve_clusters=True,
        verbose=0,
    )
    found = quantized_kernels(aware)
    assert len(np.unique(found["dense"])) <= 4
    assert len(np.unique(found["logits"])) <= 4
    channels = np.moveaxis(found["conv"], -1, 0)
    assert max(len(np.unique(channel)) for channel in channels) <= 4
    changed = found["dense"] - model.get_layer("dense").kernel.numpy()
    assert np.any(changed != 0)


def test_zeros_that_were_lost_are_an_error(monkeypatch):
    module = sys.modules["l0keras.export.bridge.quantize_aware"]
    careless = module._scheme(False, False)
    monkeypatch.setattr(module, "_scheme", lambda *_: careless)
    model = network()
    kernel = kernels(model)["dense"]
    model.get_layer("dense").kernel.assign(np.maximum(kernel, 0))
    with pytest.raises(RuntimeError, match="Zeros in the kernel of 'dense'"):
        quantize_aware(
            model,
            data(),
            optimizer=keras.optimizers.SGD(1.0),
            loss=loss(),
            preserve_sparsity=True,
            verbose=0,
        )


def test_several_inputs_and_outputs():
    inputs = {n: keras.Input((6,), name=n) for n in "ab"}
    x = layers.Multiply()([layers.Dense(6)(inputs["a"]), inputs["b"]])
    outputs = {"p": layers.Dense(3)(x), "q": [layers.Dense(2)(x)]}
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(0)
    x = {n: rng.normal(size=(64, 6)).astype("float32") for n in "ab"}
    y = {"p": np.ones((64, 3)), "q": [np.ones((64, 2))]}
    aware = quantize_aware(model, (x, y), loss="mse", verbose=0)
    outputs = aware(x)
    assert set(outputs) == {"p", "q"}
    assert outputs["p"].shape == (64, 3) and outputs["q"][0].shape == (64, 2)


@pytest.mark.parametrize(
    "sparsity", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_layers_that_cannot_be_quantized_stay_float(sparsity):
    inputs = keras.Input((6, 3))
    x = layers.UpSampling1D(2)(layers.Dense(4)(inputs))
    x = layers.LSTM(4)(layers.ELU()(layers.Dense(5, activation="elu")(x)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    aware = quantize_aware(
        model,
        (np.ones((8, 6, 3)), np.ones((8, 2))),
        loss="mse",
        preserve_sparsity=sparsity,
        verbose=0,
    )
    kinds = [type(getattr(x, "layer", x)).__name__ for x in aware.layers]
    assert kinds.count("Dense") == 3
    assert type(aware.layers[kinds.index("LSTM")]).__name__ == "LSTM"


def test_half_precision_is_refused():
    keras.config.set_dtype_policy("mixed_float16")
    with pytest.raises(ValueError, match="must compute in float32"):
        quantize_aware(network(), data(), loss=loss())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["MobileNetV2", "ResNet50", "EfficientNetB0", "DenseNet121"]
)
def test_applications(name):
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), classes=10
    )
    rng = np.random.default_rng(0)
    # As it comes from an image; some of them divide by 255 themselves.
    x = rng.uniform(0, 255, (8, 32, 32, 3)).astype("float32")
    loss = "sparse_categorical_crossentropy"
    aware = quantize_aware(model, (x, np.arange(8)), loss=loss, verbose=0)
    outputs = aware(x, training=False).numpy()
    np.testing.assert_allclose(outputs.sum(1), 1, atol=0.1)
    kinds = [type(layer).__name__ for layer in aware.layers]
    assert kinds.count("QuantizeWrapperV2") > 0.9 * len(model.layers)
