"""Quantized files against the models that they come from."""

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.export import run_tflite
from l0keras.export.litert.run_tflite import open_tflite

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(32, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(5, name="logits"),
        ]
    )
    rng = np.random.default_rng(0)
    statistics = model.layers[1]
    statistics.moving_mean.assign(rng.normal(size=32))
    statistics.moving_variance.assign(rng.uniform(0.5, 2, size=32))
    return model


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    return rng.normal(size=(300, 8, 8, 1)).astype("float32")


# What is stored, how much smaller than float32 and how exact.
@pytest.mark.parametrize(
    "quantization, dtype, smaller, difference",
    [
        ("float16", "float32", 1.8, 1e-2),
        ("dynamic", "float32", 2.8, 5e-2),
        ("int8", "int8", 2.8, 5e-2),
        ("int16x8", "int16", 2.8, 5e-2),
    ],
)
def test_modes(
    quantization, dtype, smaller, difference, model, images, tmp_path
):
    floats = l0keras.export_tflite(model, tmp_path / "float.tflite")
    path = tmp_path / "model.tflite"
    file = l0keras.export_tflite(model, path, quantization, images)
    assert floats.bytes / file.bytes > smaller
    assert file.quantization == quantization
    expected = model.predict(images, verbose=0)
    got = run_tflite(path, images, batch_size=7)
    assert got.dtype == "float32"
    scale = np.abs(expected).max()
    assert 1e-6 * scale < np.abs(got - expected).max() < difference * scale
    np.testing.assert_allclose(
        file.max_difference, np.abs(got - expected).max(), rtol=1e-3
    )
    agreement = np.mean(got.argmax(-1) == expected.argmax(-1))
    assert file.top1_agreement == pytest.approx(agreement)
    runner = open_tflite(path).get_signature_runner()
    for details in (
        runner.get_input_details()["image"],
        runner.get_output_details()["logits"],
    ):
        assert details["dtype"] == np.dtype(dtype)
        # Batches of any size.
        assert details["shape_signature"][0] == -1


def test_every_operation_of_int8_is_on_integers(model, images, tmp_path):
    path = tmp_path / "model.tflite"
    l0keras.export_tflite(model, path, "int8", images)
    types = {
        details["dtype"] for details in open_tflite(path).get_tensor_details()
    }
    assert np.float32 not in types


def test_integer_files_take_integers_too(model, images, tmp_path):
    path = tmp_path / "model.tflite"
    l0keras.export_tflite(model, path, "int8", images)
    details = open_tflite(path).get_signature_runner().get_input_details()
    scale, zero_point = details["image"]["quantization"]
    integers = np.clip(np.round(images / scale) + zero_point, -128, 127)
    np.testing.assert_array_equal(
        run_tflite(path, integers.astype("int8")), run_tflite(path, images)
    )
    with pytest.raises(ValueError, match="dtype float32 or int8"):
        run_tflite(path, images.astype("float64"))


def test_ranges_come_from_the_data(model, images, tmp_path):
    scales = []
    for factor in (1, 10):
        path = tmp_path / "model.tflite"
        l0keras.export_tflite(model, path, "int8", factor * images)
        details = open_tflite(path).get_signature_runner().get_input_details()
        scales.append(details["image"]["quantization"][0])
    assert scales[1] / scales[0] == pytest.approx(10, rel=1e-3)


def test_sparse_encoding_leaves_out_zeros(tmp_path):
    model = keras.Sequential([keras.Input((200,)), layers.Dense(200)])
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(200, 200)) * (rng.random((200, 200)) < 0.05)
    model.layers[0].kernel.assign(kernel)
    files = [
        l0keras.export_tflite(
            model, tmp_path / "model.tflite", sparse_encoding=encoding
        )
        for encoding in (False, True)
    ]
    assert files[0].bytes / files[1].bytes > 4
    assert files[1].max_difference < 1e-4


@pytest.mark.parametrize("mode", ["float16", "dynamic", "int8", "int16x8"])
def test_sparse_encoding_of_quantized_weights_is_refused(mode, model, tmp_path):
    with pytest.raises(ValueError, match="`sparse_encoding` must be False"):
        l0keras.export_tflite(
            model, tmp_path / "m.tflite", mode, sparse_encoding=True
        )


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_integers_need_data(mode, model, tmp_path):
    with pytest.raises(ValueError, match="`representative_data` must be given"):
        l0keras.export_tflite(model, tmp_path / "m.tflite", mode)


def test_unknown_modes_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="one of None, 'float16', 'dynamic'"):
        l0keras.export_tflite(model, tmp_path / "m.tflite", "int4")


def test_integer_inputs_stay_as_they_are(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32", name="tokens"),
            layers.Embedding(9, 3),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2),
        ]
    )
    tokens = np.random.default_rng(0).integers(0, 9, (50, 4)).astype("int32")
    path = tmp_path / "model.tflite"
    file = l0keras.export_tflite(model, path, "int8", tokens)
    details = open_tflite(path).get_signature_runner().get_input_details()
    assert details["tokens"]["dtype"] == np.int32
    assert file.max_difference < 0.01
    with pytest.raises(ValueError, match="'tokens' of dtype int32"):
        l0keras.export_tflite(model, path, "int16x8", tokens)


def test_a_gated_model_is_stripped_first(images, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            l0keras.layers.L0Dense(40, activation="relu"),
            layers.Dense(3),
        ]
    )
    (gate,) = l0keras.gates_of(model)
    path = tmp_path / "model.tflite"
    sizes = []
    for closed in (0, 60):
        gate.log_alpha.assign(np.where(np.arange(64) < closed, -5.0, 5.0))
        sizes.append(l0keras.export_tflite(model, path, "int8", images).bytes)
    assert sizes[0] - sizes[1] > 60 * 30


def test_errors_come_without_the_noise_of_the_converter(tmp_path, capfd):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    l0keras.export_tflite(
        model, tmp_path / "m.tflite", "int8", np.ones((40, 3), "float32")
    )
    assert capfd.readouterr() == ("", "")


def test_quantize_aware_models_bring_their_ranges(model, images, tmp_path):
    pytest.importorskip("tensorflow_model_optimization")
    labels = np.arange(len(images)) % 5
    aware = l0keras.export.quantize_aware(
        model,
        (images, labels),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        verbose=0,
    )
    path = tmp_path / "model.tflite"
    file = l0keras.export_tflite(aware, path, "int8")
    signature = l0keras.export.signature(path)
    assert signature["inputs"]["image"]["dtype"] == "int8"
    assert signature["outputs"]["logits"]["shape"] == (None, 5)
    # Far closer to what was trained than rounding afterwards would be.
    expected = aware.predict(images, verbose=0)
    got = run_tflite(path, images)
    scale = np.abs(expected).max()
    assert np.mean(np.abs(got - expected)) < 2e-3 * scale
    assert file.top1_agreement > 0.9
    with pytest.raises(ValueError, match="must be 'int8' for a model of"):
        l0keras.export_tflite(aware, path, "dynamic")
