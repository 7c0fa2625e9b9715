import os
import shutil

import keras
import numpy as np
import pytest

from l0keras.cli.data.load_data import load_data
from l0keras.cli.flags import parse
from tests.cli.conftest import SHAPE
from tests.cli.conftest import examples
from tests.cli.conftest import write_images


def a_model(shape=SHAPE, outputs=3, loss="sparse_categorical_crossentropy"):
    model = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.GlobalAveragePooling2D()
            if len(shape) == 3
            else keras.layers.Flatten(),
            keras.layers.Dense(outputs),
        ]
    )
    model.compile(loss=loss)
    return model


def read(model, *words, data="data.npz"):
    words = ["export", "m.keras", f"--data={data}", "--rescale=1", *words]
    return load_data(model, parse(list(map(str, words))))


def arrays(dataset):
    x, y = zip(*((x.numpy(), y.numpy()) for x, y in dataset))
    return np.concatenate(x), np.concatenate(y)


def sorted_rows(x):
    return np.sort(x.reshape(len(x), -1).sum(-1))


def test_arrays_with_a_test_set(here, capsys):
    data = read(a_model(), data=here / "data.npz")
    assert (data.num_train, data.num_validation, data.classes) == (96, 33, True)
    assert "96 examples to train on, 33 to measure on" in capsys.readouterr()[0]
    x, y = arrays(data.validation)
    expected = examples(33, seed=1)
    np.testing.assert_array_equal(x, expected[0])
    np.testing.assert_array_equal(y, expected[1])
    assert x.dtype == np.float32
    # Each time in another order, with the labels that belong to them.
    one, two = arrays(data.train), arrays(data.train)
    assert np.any(one[0] != two[0])
    expected = examples(96)
    np.testing.assert_array_equal(sorted_rows(one[0]), sorted_rows(expected[0]))
    right = [(image[:, 4:].mean() > 150) for image in one[0]]
    np.testing.assert_array_equal(right, one[1] > 0)


def test_a_share_is_held_out(here):
    data = read(a_model(), "--validation_split=0.25", data=here / "data.npz")
    assert (data.num_train, data.num_validation) == (72, 24)
    parts = [arrays(part)[0] for part in (data.train, data.validation)]
    both = sorted_rows(np.concatenate(parts))
    np.testing.assert_array_equal(both, sorted_rows(examples(96)[0]))
    again = read(a_model(), "--validation_split=0.25", data=here / "data.npz")
    np.testing.assert_array_equal(arrays(again.validation)[0], parts[1])


def test_arrays_of_keras_and_another_file(here):
    x, y = examples(12)
    np.savez("k.npz", x_train=x[..., 0], y_train=y[:, None])
    np.savez("v.npz", x=x[:6], y=np.eye(3)[y[:6]])
    data = read(a_model(), "--validation_data=v.npz", data="k.npz")
    assert (data.num_train, data.num_validation) == (12, 6)
    np.testing.assert_array_equal(arrays(data.validation)[1], y[:6])


def test_inputs_are_scaled_and_labels_formed(here, capsys):
    words = ("--rescale=1/127.5", "--offset=-1")
    model = a_model(loss="categorical_crossentropy")
    data = read(model, *words, data=here / "data.npz")
    x, y = arrays(data.validation)
    expected = examples(33, seed=1)
    np.testing.assert_allclose(x, expected[0] / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(y, np.eye(3)[expected[1]])
    text = capsys.readouterr().out
    assert "0.007843 times what is in the data plus -1" in text


def test_integers_stay_integers(here):
    x = np.arange(40).reshape(10, 4) % 7
    np.savez("t.npz", x=x, y=x[:, 0] % 2)
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(7, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    data = read(model, data="t.npz")
    x, y = arrays(data.train)
    assert x.dtype == np.int32 and y.shape == (8, 1)
    assert not data.task.logits
    assert read(a_model((4,), 1), data="t.npz").task.logits


@pytest.mark.parametrize(
    "content, message",
    [
        ({"x": np.ones((4, *SHAPE))}, "arrays x and y or x_train and y_train"),
        ({}, "with none"),
        ({"x": np.ones((4, 9, 9, 1)), "y": np.ones(4)}, "have shape"),
        ({"x": np.ones((4, *SHAPE)), "y": np.ones(5)}, "as many examples"),
        ({"x": np.ones((1, *SHAPE)), "y": np.ones(1)}, "at least 2"),
        ({"x": np.full((4, *SHAPE), np.nan), "y": np.ones(4)}, "NaN or"),
        ({"x": np.full((4, *SHAPE), "a"), "y": np.ones(4)}, "hold numbers"),
        ({"x": np.ones((4, *SHAPE)), "y": [0, 1, 2, 3]}, "from 0 to 2"),
        (
            {"x": np.ones((4, *SHAPE)), "y": np.array([None] * 4)},
            "an .npz file of arrays of numbers",
        ),
    ],
)
def test_arrays_that_do_not_fit(content, message, here):
    np.savez("d.npz", **content)
    with pytest.raises(ValueError, match=message):
        read(a_model(), data="d.npz")


def test_no_share_of_too_few(here):
    np.savez("d.npz", x=np.ones((2, *SHAPE)), y=np.ones(2))
    with pytest.raises(ValueError, match="`validation_split` must leave"):
        read(a_model(), "--validation_split=0.1", data="d.npz")


def test_damaged_arrays(here):
    with open("d.npz", "w") as file:
        file.write("no archive")
    with pytest.raises(ValueError, match="`data` must be an .npz file"):
        read(a_model(), data="d.npz")


def test_images(here, capsys):
    data = read(a_model(), data=here / "images")
    assert (data.num_train, data.num_validation) == (77, 19)
    text = capsys.readouterr().out
    assert "3 classes: 0 empty, 1 full, 2 half" in text
    assert "Using" not in text
    x, y = arrays(data.train)
    assert x.shape == (77, *SHAPE) and set(y) == {0, 1, 2}
    np.testing.assert_array_equal(x[..., :4, :].mean((1, 2, 3)) > 150, y == 1)
    # No file is in both parts.
    rest = arrays(data.validation)[0]
    assert len(np.unique(np.concatenate([x, rest]), axis=0)) == 96


@pytest.mark.parametrize("shape", [(8, 8), (6, 5, 3), (3, 6, 5)])
def test_images_have_the_model_s_shape(shape, here):
    data = read(a_model(shape), data=here / "images")
    assert arrays(data.validation)[0].shape == (19, *shape)


def test_jpegs_have_no_fourth_channel(here):
    with pytest.raises(ValueError, match="cannot be read.*4 channels"):
        read(a_model((8, 8, 4)), data=here / "images")


def test_images_of_any_size(here):
    model = a_model((None, None, 3))
    with pytest.raises(ValueError, match="`image_size` must say"):
        read(model, data=here / "images")
    data = read(model, "--image_size=7", data=here / "images")
    assert arrays(data.validation)[0].shape == (19, 7, 7, 3)
    with pytest.raises(ValueError, match="be the model's, 8 x 8"):
        read(a_model(), "--image_size=7", data=here / "images")


def test_the_order_of_classes(here):
    words = "--classes=half,full,empty"
    data = read(a_model(), words, data=here / "images")
    x, y = arrays(data.train)
    np.testing.assert_array_equal(x[..., :4, :].mean((1, 2, 3)) > 150, y == 1)
    np.testing.assert_array_equal(x.mean((1, 2, 3)) < 70, y == 2)
    with pytest.raises(ValueError, match="`classes` must name each folder"):
        read(a_model(), "--classes=half,full", data=here / "images")


def test_another_folder_to_measure_on(here, tmp_path):
    write_images(tmp_path / "other", 9, seed=5)
    words = f"--validation_data={tmp_path / 'other'}"
    data = read(a_model(), words, data=here / "images")
    assert (data.num_train, data.num_validation) == (96, 9)
    np.testing.assert_array_equal(
        arrays(data.validation)[1], np.repeat([0, 1, 2], 3)
    )
    shutil.rmtree(tmp_path / "other" / "full")
    with pytest.raises(ValueError, match="must have the folders of `data`"):
        read(a_model(), words, data=here / "images")
    words = f"--validation_data={here / 'data.npz'}"
    with pytest.raises(ValueError, match="must both be folders or both"):
        read(a_model(), words, data=here / "images")


def test_folders_that_cannot_be_used(here, tmp_path):
    def refused(message, model=None):
        with pytest.raises(ValueError, match=message):
            read(model or a_model(), data=tmp_path / "i")

    os.makedirs("i/.hidden")
    refused("which has no folders")
    write_images(tmp_path / "i", 6)
    refused("must have 5 folders.*Received: 3", a_model(outputs=5))
    refused("must read images", a_model((4,)))
    refused("must read images", a_model((8, 8, 2)))
    os.rename("i/full", "moved")
    refused("must have 3 folders.*Received: 2, empty, half")
    os.mkdir("i/full")
    refused("with none in full")
    with open("i/full/notes.txt", "w") as file:
        file.write("no image")
    refused("with none in full")
    with open("i/full/page.jpg", "w") as file:
        file.write("<html>")
    refused("page.jpg, which is no such image")
    with open("i/full/page.jpg", "w"):
        pass
    refused("page.jpg, an empty file")


def test_a_set_of_tensorflow_datasets(here, small_sets):
    words = f"--data_dir={small_sets}"
    model = a_model((28, 28, 1), 10)
    data = read(model, words, data="mnist")
    assert (data.num_train, data.num_validation) == (12, 5)
    x, y = arrays(data.validation)
    assert x.shape == (5, 28, 28, 1) and x.max() > 200 and y.shape == (5,)
    data = read(model, words, "--validation_split=0.25", data="mnist")
    assert (data.num_train, data.num_validation) == (9, 3)
    assert len(arrays(data.train)[1]) == 9
    resized = read(a_model((3, 20, 24), 10), words, data="cifar10")
    assert arrays(resized.validation)[0].shape == (5, 3, 20, 24)
    for model, name, message in (
        (a_model((28, 28, 1), 10), "mnits", "`data` must be a folder"),
        (a_model((28, 28, 1), 5), "mnist", "from 0 to 4.*0 to 9"),
        (a_model((28, 28, 3), 10), "mnist", "images of 3 channels"),
    ):
        with pytest.raises(ValueError, match=message):
            read(model, words, data=name)
