"""Networks of keras.applications with half of their gates closed."""

import keras
import numpy as np
import pytest

import l0keras
from l0keras.export import run_tflite
from l0keras.export import to_tf_keras

if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT files need TensorFlow", allow_module_level=True)

pytest.importorskip("tensorflow_model_optimization")

from trainers.studies import proof  # noqa: E402
from trainers.studies import zoo  # noqa: E402


def half_closed(model):
    """A stripped network, half of whose gates were closed, and images."""
    rng = np.random.default_rng(0)
    images = proof.images_for(model, rng, 64)
    proof.randomize(model, rng)
    proof.fit_statistics(model, images, rng)
    gated = l0keras.sparsify(model, l0=1e-6, droprate_init=0.05, seed=0)
    proof.close_half(gated, rng)
    proof.fit_statistics(gated, images, rng)
    return l0keras.strip(gated), images


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["MobileNetV2", "ResNet50", "EfficientNetB0", "DenseNet121"]
)
def test_is_the_same_in_tf_keras_and_runs_in_int8(name, tmp_path):
    small, images = half_closed(zoo.builder(name)())
    expected = keras.ops.convert_to_numpy(small(images, training=False))
    outputs = to_tf_keras(small)(images, training=False).numpy()
    scale = np.abs(expected).max()
    assert np.abs(outputs - expected).max() <= 1e-6 * scale
    path = tmp_path / "int8.tflite"
    file = l0keras.export_tflite(small, path, "int8", images)
    got = run_tflite(path, images)
    assert np.isfinite(got).all()
    # Errors add up over a hundred layers with random weights.
    difference = np.abs(got - expected).max() / scale
    print(
        f"{name}: {file.bytes:,} bytes, {difference:.3f} of the largest logit"
    )
    assert difference < 0.2
    floats = l0keras.export_tflite(small, path)
    assert floats.bytes > 2.5 * file.bytes
