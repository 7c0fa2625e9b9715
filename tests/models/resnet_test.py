import keras
import numpy as np
import pytest

import l0keras
from l0keras import models
from tests.models.sizes import count_trainable
from tests.models.sizes import total


@pytest.mark.parametrize(
    "depth, published_weights, published_macs",
    [(20, 0.27e6, 40.55e6), (56, 0.85e6, 125.5e6)],
)
def test_published_size(depth, published_weights, published_macs):
    model = models.resnet(depth)
    count = (depth - 2) // 3
    convolutions = [(32, 3, 3, 16)] + count * [(32, 3, 16, 16)]
    for side, filters in ((16, 32), (8, 64)):
        convolutions += [(side, 3, filters // 2, filters)]
        convolutions += (count - 1) * [(side, 3, filters, filters)]
    weights, macs = total(convolutions)
    normalized = 16 + count * (16 + 32 + 64)
    assert count_trainable(model) == weights + 2 * normalized + 650
    assert l0keras.count_macs(model) == macs + 640
    assert count_trainable(model) == pytest.approx(published_weights, rel=0.01)
    assert l0keras.count_macs(model) == pytest.approx(published_macs, rel=0.01)


def test_shortcuts_subsample_and_pad_with_zeros():
    model = models.resnet(8, input_shape=(9, 8, 3), seed=0)
    names = ("block1_1_relu2", "block2_1_norm2", "block2_1_relu2")
    probe = keras.Model(
        model.input, [model.get_layer(name).output for name in names]
    )
    images = np.random.default_rng(0).normal(size=(2, 9, 8, 3))
    x, y, output = (tensor.numpy() for tensor in probe(images))
    x = np.pad(x[:, ::2, ::2], [(0, 0), (0, 0), (0, 0), (0, 16)])
    assert x.any()
    np.testing.assert_allclose(output, np.maximum(x + y, 0), atol=1e-6)


def test_strided_windows_lie_around_the_pixels_of_the_shortcut():
    model = models.resnet(8, input_shape=(8, 8, 1))
    layer = model.get_layer("block2_1_conv1")
    probe = keras.Model(
        model.get_layer("block2_1_conv1_pad").input, layer.output
    )
    kernel = np.zeros((3, 3, 16, 32))
    kernel[1, 1, 0, 0] = 1
    layer.set_weights([kernel])
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 16)).astype("float32")
    np.testing.assert_array_equal(probe(x)[..., 0], x[:, ::2, ::2, 0])


def test_width_of_the_first_stage():
    model = models.resnet(8, 3, input_shape=(8, 8, 1))
    filters = [
        layer.filters
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert filters == [3, 3, 3, 6, 6, 12, 12]


def test_names_are_the_same_for_each_network():
    first, second = (
        [operation.name for operation in models.resnet(14).operations]
        for _ in range(2)
    )
    assert first == second
    assert "block2_1_conv1" in first and "block3_2_add" in first


def test_saved_and_exported(tmp_path):
    model = models.resnet(8, input_shape=(8, 8, 3), seed=0)
    path = tmp_path / "model.keras"
    model.save(path)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3))
    images = images.astype("float32")
    expected = model(images).numpy()
    loaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(loaded(images).numpy(), expected)
    gated = l0keras.sparsify(model)
    for gate in l0keras.gates_of(gated):
        shape = gate.log_alpha.shape
        gate.log_alpha.assign(np.resize([5.0, -5.0, 5.0], shape))
    stripped = l0keras.strip(gated)
    expected = gated(images).numpy()
    converted = l0keras.export.to_tf_keras(stripped)
    np.testing.assert_allclose(
        converted(images).numpy(), expected, rtol=0, atol=1e-5
    )
    path = tmp_path / "model.tflite"
    l0keras.export_tflite(stripped, path)
    outputs = l0keras.export.run_tflite(path, images)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [2, 18, 34, 56.0])
def test_wrong_depths_are_refused(depth):
    with pytest.raises(ValueError, match=f"`depth` must be 6 n . 2.*{depth}"):
        models.resnet(depth)


def test_width_of_no_channels_is_refused():
    with pytest.raises(ValueError, match="`width` must be an integer.*=0"):
        models.resnet(8, 0)
