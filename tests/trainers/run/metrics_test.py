import keras
import numpy as np
import pytest

from l0keras import export_tflite
from l0keras import models
from trainers.run import metrics
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 3, 4)).astype("float32")
LABELS = np.array([[0, 3, -1], [-1, 2, -1]], "int32")


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


def entropies():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    counted = [(0, 0), (0, 1), (1, 1)]
    return [-np.log(p[i, j, LABELS[i, j]]) for i, j in counted]


def test_loss_is_the_mean_over_what_counts():
    got = float(metrics.loss()(LABELS, LOGITS))
    assert got == pytest.approx(np.mean(entropies()), rel=1e-5)


def test_loss_of_images_is_keras_own():
    logits, labels = LOGITS[:, 0], np.array([1, 2])
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert float(metrics.loss()(labels, logits)) == float(plain(labels, logits))


def test_what_does_not_count_has_no_gradient():
    import tensorflow as tf

    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = metrics.loss()(LABELS, logits)
    gradient = tape.gradient(loss, logits).numpy()
    assert (np.abs(gradient).sum(-1) > 0).tolist() == (LABELS >= 0).tolist()


def test_accuracy_counts_the_same_labels():
    metric = metrics.Accuracy()
    assert metric.name == "accuracy"
    predicted = np.array([[0, 1, 0], [1, 2, 2]])
    metric.update_state(LABELS, np.eye(4, dtype="float32")[predicted])
    assert float(metric.result()) == pytest.approx(2 / 3)
    # Batches weigh by what counts in them.
    labels = np.array([[1, -1, -1]])
    metric.update_state(labels, np.eye(4, dtype="float32")[labels])
    assert float(metric.result()) == pytest.approx(3 / 4)
    metric.reset_state()
    weights = np.array([[1.0, 3.0, 1.0], [1.0, 4.0, 1.0]])
    metric.update_state(LABELS, np.eye(4, dtype="float32")[predicted], weights)
    assert float(metric.result()) == pytest.approx(5 / 8)
