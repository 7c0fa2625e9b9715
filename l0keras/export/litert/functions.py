"""Functions of Keras in forms that LiteRT has, whichever layer calls them.

A layer of one's own may call them in the middle of its `call`, so that there
is no operation of a graph to give another form.
"""

import keras
from keras.src import backend
from keras.src.ops import image


def functions():
    """The attributes of modules that the converter needs instead of Keras's.

    Returns:
        A list of triples, see `attributes`.
    """
    return [
        (backend.numpy, "argmax", _argmax),
        (backend.numpy, "argmin", _argmin),
        (backend.numpy, "cumprod", _cumprod(backend.numpy.cumprod)),
        (backend.numpy, "roll", _roll(backend.numpy.roll)),
        (
            image,
            "_extract_patches_2d",
            _patches(image._extract_patches_2d),
        ),
    ]


def _argmax(x, axis=None, keepdims=False):
    import tensorflow as tf

    return _index(tf.argmax, x, axis, keepdims)


def _argmin(x, axis=None, keepdims=False):
    import tensorflow as tf

    return _index(tf.argmin, x, axis, keepdims)


def _index(function, x, axis, keepdims):
    """Keras's own tells 0 from -0 by their bits, which LiteRT cannot."""
    x = keras.ops.convert_to_tensor(x)
    if x.dtype == "bool":
        x = keras.ops.cast(x, "int32")
    rank = len(x.shape)
    if axis is None:
        x = keras.ops.reshape(x, (-1,))
    index = function(x, axis or 0, output_type="int32")
    if not keepdims:
        return index
    if axis is None:
        return keras.ops.reshape(index, (1,) * rank)
    return keras.ops.expand_dims(index, axis)


def _cumprod(original):
    """Products with what lies 1, 2, 4 and so on steps before."""

    def cumprod(x, axis=None, dtype=None):
        x = keras.ops.convert_to_tensor(x)
        if axis is None or dtype is not None or x.shape[axis] is None:
            return original(x, axis, dtype)
        size, step = x.shape[axis], 1
        while step < size:
            first, rest = keras.ops.split(x, [step], axis)
            before, _ = keras.ops.split(x, [size - step], axis)
            x = keras.ops.concatenate([first, rest * before], axis)
            step *= 2
        return x

    return cumprod


def _roll(original):
    """Slices in the place of an operation that LiteRT lacks."""

    def roll(x, shift, axis=None):
        x = keras.ops.convert_to_tensor(x)
        axes = [axis] if isinstance(axis, int) else axis
        shifts = [shift] if isinstance(shift, int) else shift
        if axes is None or not all(isinstance(n, int) for n in shifts):
            return original(x, shift, axis)
        for one, count in zip(axes, shifts, strict=True):
            size = x.shape[one]
            if size is None:
                return original(x, shift, axis)
            count %= size
            if count:
                parts = keras.ops.split(x, [size - count], one)
                x = keras.ops.concatenate(parts[::-1], one)
        return x

    return roll


def _patches(original):
    """A transposition in the place of a convolution with ones and zeros.

    The kernel of that has the square of a patch's size in numbers.
    """

    def extract_patches(
        images,
        size,
        strides=None,
        dilation_rate=1,
        padding="valid",
        data_format=None,
    ):
        sizes = _pair(size)
        rows, columns = images.shape[-3:-1]
        if (
            len(images.shape) != 4
            or backend.standardize_data_format(data_format) != "channels_last"
            or _pair(strides or size) != sizes
            or _pair(dilation_rate) != (1, 1)
            or None in images.shape[1:]
            or (padding != "valid" and (rows % sizes[0] or columns % sizes[1]))
        ):
            return original(
                images, size, strides, dilation_rate, padding, data_format
            )
        shape = rows // sizes[0], columns // sizes[1]
        height, width = (count * n for count, n in zip(shape, sizes))
        channels = images.shape[-1]
        # Rows of patches are examples: microcontrollers have few axes.
        x = keras.ops.reshape(
            images[:, :height, :width],
            (-1, sizes[0], shape[1], sizes[1] * channels),
        )
        x = keras.ops.transpose(x, (0, 2, 1, 3))
        return keras.ops.reshape(
            x, (-1, *shape, sizes[0] * sizes[1] * channels)
        )

    return extract_patches


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)
