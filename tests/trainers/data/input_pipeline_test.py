import numpy as np
import pytest
import tensorflow as tf

from trainers.data import input_pipeline
from trainers.data.input_pipeline import Data


def small(examples=10, side=2):
    images = np.arange(examples, dtype="uint8")[:, None, None, None]
    return Data(
        train_images=np.tile(images, (1, side, side, 1)),
        train_labels=np.arange(examples, dtype="int32"),
        test_images=np.tile(images, (1, side, side, 1)),
        test_labels=np.arange(examples, dtype="int32"),
        classes=examples,
    )


def orders(dataset):
    return [labels.tolist() for _, labels in dataset.as_numpy_iterator()]


def test_each_epoch_has_each_example_once_in_an_order_of_its_own():
    batches = orders(small().train_batches(4, seed=1, epochs=3))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 3
    epochs = [sum(batches[start : start + 3], []) for start in (0, 3, 6)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
        assert epoch != list(range(10))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_order_depends_on_seed_and_epoch_alone():
    data = small()
    whole = orders(data.train_batches(4, seed=1, epochs=4))
    again = orders(data.train_batches(4, seed=1, epochs=4))
    assert whole == again
    rest = orders(data.train_batches(4, seed=1, epochs=4, first_epoch=2))
    assert rest == whole[6:]
    assert whole != orders(data.train_batches(4, seed=2, epochs=4))


def test_images_go_with_their_labels_and_lie_in_zero_to_one():
    for images, labels in small().train_batches(4, seed=0, epochs=1):
        assert images.dtype == tf.float32
        wanted = labels.numpy()[:, None, None, None] / 255 * np.ones((2, 2, 1))
        np.testing.assert_allclose(images, wanted, rtol=1e-6)


def test_remainder_can_be_dropped():
    data = small()
    batches = orders(data.train_batches(4, 1, 2, drop_remainder=True))
    assert [len(batch) for batch in batches] == [4] * 4
    assert data.steps_per_epoch(4, drop_remainder=True) == 2
    assert data.steps_per_epoch(4) == 3
    assert data.steps_per_epoch(5) == 2


def test_iterators_wait_for_no_tuning():
    options = small().train_batches(4, seed=1, epochs=2).options()
    assert options.autotune.enabled is False


def test_test_batches_keep_the_order():
    labels = sum(orders(small().test_batches()), [])
    assert labels == list(range(10))


def test_digits(digits):
    assert digits.train_images.shape == (1437, 8, 8, 1)
    assert digits.test_images.shape == (360, 8, 8, 1)
    assert digits.input_shape == (8, 8, 1)
    assert digits.train_images.dtype == np.uint8
    # The set begins 0 1 2 ... 9 three times; every fifth is for testing.
    assert digits.test_labels[:6].tolist() == [0, 5, 0, 5, 0, 5]
    assert digits.train_labels[:6].tolist() == [1, 2, 3, 4, 6, 7]
    assert np.bincount(digits.test_labels).min() > 25
    scaled = digits.scale(digits.train_images).numpy()
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)


def test_resized():
    data = input_pipeline.load("digits", image_size=16)
    assert data.input_shape == (16, 16, 1)
    assert data.train_images.max() <= 16
    original = input_pipeline.load("digits")
    blocks = data.test_images.reshape(360, 8, 2, 8, 2).mean((2, 4))
    assert abs(blocks - original.test_images[..., 0]).mean() < 1.5


def test_files_of_another_set_are_refused(originals, tmp_path):
    with pytest.raises(ValueError, match="fashion_mnist could not be prep"):
        input_pipeline.load("fashion_mnist", tmp_path, originals / "mnist")


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="`dataset` must be .*Close: mnist"):
        input_pipeline.load("mnistt", tmp_path)


def test_not_images(tmp_path):
    with pytest.raises(ValueError, match="`dataset` must name a set of imag"):
        input_pipeline.load("titanic", tmp_path)
