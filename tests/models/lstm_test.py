import keras
import numpy as np
import pytest

from l0keras import models


def test_parameters_for_images_read_row_by_row():
    model = models.lstm()
    # Four gates of 28 inputs, 128 outputs and a bias; the logits.
    assert model.count_params() == 4 * 128 * (28 + 128 + 1) + 129 * 10
    assert model.count_params() == 81_674
    assert model.output_shape == (None, 10)
    image = models.lstm((28, 28, 1), units=7)
    assert image.count_params() == 4 * 7 * 36 + 80
    assert image.output_shape == (None, 10)


def test_frames_have_logits_each():
    model = models.lstm((None, 39), 61, 200, return_sequences=True)
    assert model.count_params() == 4 * 200 * 240 + 201 * 61
    assert model.output_shape == (None, None, 61)
    outputs = model(np.zeros((2, 5, 39), "float32"))
    assert outputs.shape == (2, 5, 61)


def test_reads_rows_as_steps():
    pixels = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
    image = models.lstm((6, 4, 1), units=5, seed=1)
    rows = models.lstm((6, 4), units=5, seed=1)
    np.testing.assert_allclose(
        image(pixels[..., None]), rows(pixels), rtol=1e-5, atol=1e-6
    )


def test_seed_fixes_the_weights():
    one, same, other = (models.lstm(units=4, seed=s) for s in (1, 1, 2))
    for a, b, c in zip(*(m.get_weights() for m in (one, same, other))):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or (a != c).any()


def test_dropout_is_in_front_of_the_logits():
    model = models.lstm(dropout=0.5)
    assert isinstance(model.layers[-2], keras.layers.Dropout)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"input_shape": (28,)}, "`input_shape` must be .*input_shape=.28"),
        ({"input_shape": (28, 28, 3)}, "`input_shape` must be"),
        ({"input_shape": (28, None)}, r"input_shape\[1\]"),
        ({"units": 0}, "`units` must be .*units=0"),
        ({"classes": 0}, "`classes` must be .*classes=0"),
        ({"dropout": 1.0}, "`dropout` must be .*dropout=1.0"),
        ({"l2": -0.1}, "`l2` must be .*l2=-0.1"),
        ({"seed": -1}, "`seed` must be .*seed=-1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.lstm(**arguments)
