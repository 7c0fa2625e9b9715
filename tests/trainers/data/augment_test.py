import numpy as np
import tensorflow as tf

from trainers.data import augment


def seed(*numbers):
    return tf.constant(numbers, tf.int32)


def gradients(count, side=8):
    """Images whose pixels say where they were: row and column from 1."""
    rows, columns = np.mgrid[1 : side + 1, 1 : side + 1]
    image = np.stack([rows, columns], -1).astype("uint8")
    return np.repeat(image[None], count, axis=0)


def offsets(images):
    """Where each image was cut out, and whether it was mirrored."""
    found = []
    for image in images.astype(int):
        # Rows go up and columns go up or down, but for the padding.
        row = image[:, :, 0].max(axis=1)
        column = image[:, :, 1].max(axis=0)
        flipped = np.diff(column[column > 0])[0] < 0
        column = column[::-1] if flipped else column
        first = np.argmax(row > 0), np.argmax(column > 0)
        start = [row[first[0]] - first[0] + 3, column[first[1]] - first[1] + 3]
        found.append((*start, bool(flipped)))
    return np.array(found)


def test_crops_and_coins_are_uniform_and_independent():
    images = augment.crop_flip(gradients(4000), seed(1, 2)).numpy()
    assert images.dtype == np.uint8 and images.shape == (4000, 8, 8, 2)
    found = offsets(images)
    for axis in (0, 1):
        counts = np.bincount(found[:, axis], minlength=9)
        assert len(counts) == 9
        # 444 expected, with a standard deviation of 20.
        assert 350 < counts.min() and counts.max() < 540
    assert 1880 < found[:, 2].sum() < 2120
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.07


def test_a_crop_is_a_window_of_the_padded_image():
    image = gradients(1)
    padded = np.pad(image[0], ((4, 4), (4, 4), (0, 0)))
    for number in range(20):
        [crop] = augment.crop_flip(image, seed(number, 0)).numpy()
        [[row, column, flipped]] = offsets(crop[None])
        window = padded[row : row + 8, column : column + 8]
        np.testing.assert_array_equal(
            crop, window[:, ::-1] if flipped else window
        )


def test_crops_depend_on_the_seed_alone():
    images = gradients(50)
    one = augment.crop_flip(images, seed(1, 2)).numpy()
    again = augment.crop_flip(images, seed(1, 2)).numpy()
    np.testing.assert_array_equal(one, again)
    other = augment.crop_flip(images, seed(1, 3)).numpy()
    assert np.mean(one == other) < 0.9


def test_resized_crops_have_the_areas_and_shapes_of_the_recipe():
    # Each pixel says where it was, so corners give the part's extent.
    rows, columns = np.mgrid[0:200, 0:300]
    image = np.stack([rows, columns], -1).astype("float32")

    @tf.function
    def crop(number):
        return augment.random_resized_crop_flip(
            image, 40, tf.stack([number, 5])
        )

    parts = np.stack([crop(tf.constant(n)).numpy() for n in range(400)])
    assert parts.shape == (400, 40, 40, 2)
    height = parts[:, -1, 0, 0] - parts[:, 0, 0, 0]
    width = parts[:, 0, -1, 1] - parts[:, 0, 0, 1]
    assert 150 < np.sum(width < 0) < 250
    height, width = (np.abs(extent) * 40 / 39 for extent in (height, width))
    area = height * width / (200 * 300)
    # The widest part of all the height has 8/9 of the area.
    assert 0.06 < area.min() < 0.12 and 0.7 < area.max() < 0.95
    aspect = width / height
    assert 0.7 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.4
    np.testing.assert_array_equal(parts[7], crop(tf.constant(7)))


def test_middle_keeps_the_aspect():
    rows, columns = np.mgrid[0:128, 0:256]
    image = np.stack([rows, columns], -1).astype("float32")
    middle = augment.resize_crop(image, 56).numpy()
    assert middle.shape == (56, 56, 2)
    # 128 rows became 64, of which the middle 56 are left.
    np.testing.assert_allclose(middle[:, 0, 0], 8.5 + 2 * np.arange(56))
    np.testing.assert_allclose(middle[0, :, 1], 72.5 + 2 * np.arange(56))
    upright = augment.resize_crop(np.transpose(image, (1, 0, 2)), 56).numpy()
    np.testing.assert_allclose(upright[0, :, 0], middle[:, 0, 0])
