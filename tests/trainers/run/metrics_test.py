import numpy as np
import pytest

from l0keras import export_tflite
from l0keras import models
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict


def test_error_counts_wrong_examples(digits):
    logits = np.eye(10)[digits.test_labels]
    assert error_percent(logits, digits) == 0
    logits[:9] = np.eye(10)[(digits.test_labels[:9] + 1) % 10]
    assert error_percent(logits, digits) == 2.5


def test_logits_of_a_model_and_of_its_file(digits, tmp_path):
    model = models.mlp((8, 8, 1), hidden=(5,), seed=0)
    images = digits.test_images.astype("float32") / 16
    hidden, output = model.get_layer("fc1"), model.get_layer("fc2")
    x = images.reshape(360, 64) @ hidden.get_weights()[0]
    expected = np.maximum(x, 0) @ output.get_weights()[0]
    np.testing.assert_allclose(predict(model, digits), expected, atol=1e-4)
    path = export_tflite(model, tmp_path / "m.tflite").path
    np.testing.assert_allclose(predict(path, digits), expected, atol=1e-4)


def test_refuses_a_model_for_other_images(digits):
    with pytest.raises(ValueError, match=r"shape \(8, 8, 1\).*\(9, 9, 1\)"):
        predict(models.mlp((9, 9, 1)), digits)
