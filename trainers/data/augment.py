"""Random changes of training images, fixed by a seed.

All randomness is stateless: it depends on the seed that is given, so that a
run that was stopped sees the images that it would have seen.
"""

import tensorflow as tf

PADDING = 4
# How a whole image is brought to the size that is then cut out of its middle.
RESIZE = 256 / 224


def crop_flip(images, seed):
    """Crops of images padded by 4 black pixels, half of them mirrored.

    Source: He, Zhang, Ren and Sun, CVPR 2016 (arXiv:1512.03385), section 4.2.

    Args:
        images: a tensor `(batch, height, width, channels)`.
        seed: an integer tensor `(2,)`.

    Returns:
        A tensor of the same shape and type; each image has a crop and a coin
        of its own.
    """
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    borders = (0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)
    padded = tf.pad(images, borders)
    first, second, third = tf.unstack(tf.random.split(seed, 3))

    def crop(padded, axis, size, seed):
        starts = tf.random.stateless_uniform(
            (batch, 1), seed, 0, 2 * PADDING + 1, tf.int32
        )
        return tf.gather(
            padded, starts + tf.range(size), axis=axis, batch_dims=1
        )

    cropped = crop(padded, 1, height, first)
    cropped = crop(cropped, 2, width, second)
    coins = tf.random.stateless_uniform((batch, 1, 1, 1), third) < 0.5
    flipped = tf.where(coins, cropped[:, :, ::-1], cropped)
    return tf.ensure_shape(flipped, images.shape)


def random_resized_crop_flip(image, size, seed):
    """A part of an image, brought to a size and mirrored half of the time.

    The part has between 8 % and 100 % of the area and an aspect ratio between
    3/4 and 4/3, as PyTorch's `RandomResizedCrop`; but it is TensorFlow that
    draws it, and that draws the height, not the area, uniformly.

    Source: Szegedy et al., CVPR 2015 (arXiv:1409.4842), section 6.

    Args:
        image: a tensor `(height, width, channels)`.
        size: the side of the result.
        seed: an integer tensor `(2,)`.

    Returns:
        A float32 tensor `(size, size, channels)`, in the units of the image.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    part = tf.slice(image, begin, extent)
    part = tf.image.resize(part, (size, size), antialias=True)
    seed = tf.random.fold_in(seed, 1)
    return tf.image.stateless_random_flip_left_right(part, seed)


def resize_crop(image, size):
    """The middle of an image, whose shorter side was 256 / 224 of it.

    Args:
        image: a tensor `(height, width, channels)`.
        size: the side of the result.

    Returns:
        A float32 tensor `(size, size, channels)`, in the units of the image.
    """
    shape = tf.shape(image)[:2]
    shorter = tf.cast(tf.reduce_min(shape), tf.float32)
    scaled = tf.cast(shape, tf.float32) * (round(RESIZE * size) / shorter)
    image = tf.image.resize(
        image, tf.cast(tf.round(scaled), tf.int32), antialias=True
    )
    return tf.image.resize_with_crop_or_pad(image, size, size)
