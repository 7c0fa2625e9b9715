"""Pooling in three dimensions, of which LiteRT has two."""

import keras
from keras import ops


def pool_3d(x, layer):
    """What a pooling layer computes, by pooling twice in two dimensions.

    The largest of the largest is the largest of all. Averages are the same
    too: the entries that a window sees at a border are as many along each axis
    whatever it sees along the others.

    Args:
        x: a tensor whose sizes, but for the batch's, are known.
        layer: a `MaxPooling3D` or an `AveragePooling3D`.

    Returns:
        A tensor.
    """
    x = ops.convert_to_tensor(x)
    if None in x.shape[1:]:
        return type(layer).call(layer, x)
    first = layer.data_format == "channels_first"
    if first:
        x = ops.transpose(x, (0, 2, 3, 4, 1))
    is_max = isinstance(layer, keras.layers.MaxPooling3D)
    pool = ops.max_pool if is_max else ops.average_pool

    def pooled(x, size, strides):
        return pool(x, size, strides, layer.padding, "channels_last")

    size, strides = tuple(layer.pool_size), tuple(layer.strides)
    _, depth, *rest = x.shape
    x = pooled(ops.reshape(x, (-1, *rest)), size[1:], strides[1:])
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, depth, height * width, channels))
    x = pooled(x, (size[0], 1), (strides[0], 1))
    x = ops.reshape(x, (-1, x.shape[1], height, width, channels))
    return ops.transpose(x, (0, 4, 1, 2, 3)) if first else x
