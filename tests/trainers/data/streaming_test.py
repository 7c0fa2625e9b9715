import numpy as np
import pytest

from tests.trainers.data import small_sets as sets
from trainers.data import input_pipeline
from trainers.data.streaming import Streamed


@pytest.fixture(scope="module")
def data(small_sets):
    return input_pipeline.load(
        "imagenet2012", small_sets, image_size=32, augmentation="imagenet"
    )


def arrays(dataset):
    pairs = [(x.numpy(), y.numpy()) for x, y in dataset]
    return [np.concatenate(part) for part in zip(*pairs)]


def test_sizes(data):
    assert isinstance(data, Streamed)
    assert (data.input_shape, data.classes) == ((32, 32, 3), 1000)
    assert data.num_train == sets.TRAIN
    assert data.steps_per_epoch(5) == 3
    assert data.steps_per_epoch(5, drop_remainder=True) == 2
    mean, deviation = data.normalization
    assert mean == pytest.approx([0.485, 0.456, 0.406])
    assert deviation == pytest.approx([0.229, 0.224, 0.225])


def test_tests_on_the_split_that_has_labels(data):
    images, labels = arrays(data.test_batches())
    assert images.shape == (sets.TEST, 32, 32, 3)
    assert images.dtype == np.float32
    assert 0 <= images.min() < 0.4 < 0.6 < images.max() <= 1
    assert labels.min() >= 0
    np.testing.assert_array_equal(labels, data.test_labels)


def test_each_epoch_has_each_example_once_in_an_order_of_its_own(data):
    batches = list(data.train_batches(5, seed=1, epochs=3))
    assert [len(labels) for _, labels in batches] == [5, 5, 2] * 3
    labels = np.concatenate([labels for _, labels in batches])
    epochs = labels.reshape(3, sets.TRAIN)
    for epoch in epochs:
        assert sorted(epoch) == sorted(epochs[0])
    assert not (epochs[0] == epochs[1]).all()
    assert not (epochs[1] == epochs[2]).all()
    dropped = data.train_batches(5, seed=1, epochs=2, drop_remainder=True)
    assert [len(labels) for _, labels in dropped] == [5] * 4


def test_images_depend_on_seed_and_epoch_alone(data):
    whole = arrays(data.train_batches(4, seed=1, epochs=3))
    again = arrays(data.train_batches(4, seed=1, epochs=3))
    rest = arrays(data.train_batches(4, seed=1, epochs=3, first_epoch=2))
    for array, same, end in zip(whole, again, rest):
        np.testing.assert_array_equal(array, same)
        np.testing.assert_array_equal(array[2 * sets.TRAIN :], end)
    other = arrays(data.train_batches(4, seed=2, epochs=3))
    assert not (whole[1] == other[1]).all()


def test_without_augmentation_epochs_differ_in_their_order_alone(small_sets):
    data = input_pipeline.load("imagenet2012", small_sets, image_size=32)
    images, labels = arrays(data.train_batches(4, seed=1, epochs=2))
    sums = images.reshape(2, sets.TRAIN, -1).sum(-1)
    np.testing.assert_allclose(*np.sort(sums), rtol=1e-6)
    sample = data.sample(5)
    assert sample.shape == (5, 32, 32, 3)
    for total in sample.reshape(5, -1).sum(-1):
        assert np.isclose(total, sums[0], rtol=1e-6).sum() == 1
    again = [arrays(data.reshuffled_batches(4, 1)) for _ in range(2)]
    np.testing.assert_array_equal(again[0][1], again[1][1])
    dataset = data.reshuffled_batches(4, 1)
    assert int(dataset.cardinality()) == 3
    first, second = arrays(dataset), arrays(dataset)
    assert not (first[1] == second[1]).all()
    assert sorted(first[1]) == sorted(second[1])


@pytest.mark.parametrize(
    "name, augmentation, allowed",
    [
        ("imagenet2012", "crop_flip", "none, imagenet for images of several"),
        ("cifar10", "imagenet", "none, crop_flip for images of one size"),
        ("digits", "imagenet", "none, crop_flip for images of one size"),
    ],
)
def test_augmentation_for_other_images(name, augmentation, allowed, small_sets):
    with pytest.raises(
        ValueError, match=f"`augmentation` must be one of {allowed}"
    ):
        input_pipeline.load(
            name, small_sets, image_size=32, augmentation=augmentation
        )


def test_size_is_needed(small_sets):
    with pytest.raises(ValueError, match="Argument `image_size` must say"):
        input_pipeline.load("imagenet2012", small_sets)
