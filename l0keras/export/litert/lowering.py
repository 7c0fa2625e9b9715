"""Layers in the forms that LiteRT has operations for."""

import keras
from keras import layers
from keras.src.ops.numpy import GetItem
from keras.src.ops.numpy import Repeat

from l0keras.export.litert.attributes import attributes
from l0keras.export.litert.functions import functions
from l0keras.export.litert.integer_forms import integer_forms
from l0keras.export.litert.loops import inner_loop
from l0keras.export.litert.micro_forms import micro_forms
from l0keras.export.litert.pooling import pool_3d
from l0keras.export.litert.quantization import QUANTIZATIONS
from l0keras.export.litert.selections import selections


def lowered(model, quantization=None, target=None):
    """Has layers compute in forms that LiteRT has, in a block.

    The outputs are the same. After the block all layers are as before.

    Args:
        model: a functional model of Keras 3.
        quantization: that of the file. In files of integers, recurrent
            layers with a fixed number of steps are unrolled, for loops
            compute in floats; otherwise they loop, in a form that the
            converter takes for any number of examples.
        target: that of the file. For microcontrollers, which lack operations
            of loops, recurrent layers are unrolled too.
    """
    changes = []
    for operation in operations(model):
        forms = _forms(operation, quantization, target)
        if not isinstance(operation, keras.Layer):
            forms["call"] = _named(operation, forms.get("call"))
        changes += [(operation, name, form) for name, form in forms.items()]
    if target == "micro" and quantization == "int16x8":
        changes += selections(model)
    return attributes(changes + functions())


def _named(operation, call=None):
    """A call whose parts have the operation's name, as those of layers do."""
    call = call or operation.call

    def named(*args, **kwargs):
        import tensorflow as tf

        with tf.name_scope(operation.name):
            return call(*args, **kwargs)

    return named


def operations(model):
    """All layers of a model, and all operations in its graphs, once each."""
    found = {}
    for layer in model._flatten_layers():
        found[id(layer)] = layer
        for operation in getattr(layer, "operations", ()):
            found[id(operation)] = operation
    return list(found.values())


def _forms(operation, quantization, target):
    """The attributes that an operation needs instead of its own."""
    # What integers lack, microcontrollers lack in floats too.
    integers = target == "micro" or QUANTIZATIONS[quantization].needs_data
    if target == "micro":
        forms = micro_forms(operation, quantization)
        if forms:
            return forms
    if isinstance(operation, layers.RNN) and not operation.unroll:
        if integers and steps(operation):
            return {"unroll": True}
        return {"inner_loop": inner_loop(operation)}
    if isinstance(operation, Repeat) and isinstance(operation.repeats, int):
        return {
            "call": lambda x: repeated(x, operation.repeats, operation.axis)
        }
    kind = type(operation)
    if kind is GetItem:
        return {"call": _item}
    if kind is layers.UpSampling1D:
        return {"call": lambda x: repeated(x, operation.size, 1)}
    if kind is layers.UpSampling2D:
        return {"call": lambda x: _resized(x, operation)}
    if kind is layers.UpSampling3D:
        first = 2 if operation.data_format == "channels_first" else 1

        def call(x):
            for axis, count in enumerate(operation.size, first):
                x = repeated(x, count, axis)
            return x

        return {"call": call}
    if kind in (layers.MaxPooling3D, layers.AveragePooling3D):
        return {"call": lambda x: pool_3d(x, operation)}
    return integer_forms(operation) if integers else {}


def repeated(x, count, axis):
    """`keras.ops.repeat` with sizes that the converter knows.

    Args:
        x: a tensor.
        count: how often to repeat each entry, an integer.
        axis: the axis, an integer; `None` for that of `x` made flat.

    Returns:
        A tensor whose axis has `count` times the size.
    """
    x = keras.ops.convert_to_tensor(x)
    if axis is None:
        x, axis = keras.ops.reshape(x, (-1,)), 0
    axis %= len(x.shape)
    shape = _shape(x)
    shape[axis] = shape[axis] * count
    x = keras.ops.concatenate(
        [keras.ops.expand_dims(x, axis + 1)] * count, axis + 1
    )
    return keras.ops.reshape(x, _known(shape))


def _item(x, key):
    """A part of a tensor, with new axes by an operation of their own.

    The converter cannot do both at once where it does not know all sizes.
    """
    keys = tuple(key) if isinstance(key, (tuple, list)) else (key,)
    old = tuple(one for one in keys if one is not None)
    simple = (slice, int, type(Ellipsis))
    if not all(isinstance(one, simple) for one in old):
        return x[keys]
    x = keras.ops.convert_to_tensor(x)
    if any(one not in (Ellipsis, slice(None)) for one in old):
        x = x[old]
    others = len(x.shape) - sum(isinstance(one, slice) for one in old)
    axis = 0
    for one in keys:
        if one is None:
            x = keras.ops.expand_dims(x, axis)
        if one is None or isinstance(one, slice):
            axis += 1
        elif one is Ellipsis:
            axis += others
    return x


def _resized(x, layer):
    import tensorflow as tf

    first = layer.data_format == "channels_first"
    if first:
        x = keras.ops.transpose(x, (0, 2, 3, 1))
    shape = _shape(x)
    size = [shape[1] * layer.size[0], shape[2] * layer.size[1]]
    if layer.interpolation == "nearest":
        x = tf.image.resize(x, size, method="nearest")
    else:
        x = keras.ops.image.resize(
            x,
            size,
            data_format="channels_last",
            interpolation=layer.interpolation,
        )
    return keras.ops.transpose(x, (0, 3, 1, 2)) if first else x


def _shape(x):
    """The sizes of a tensor: numbers where they are known, else tensors."""
    import tensorflow as tf

    dynamic = tf.shape(x)
    return [
        dynamic[axis] if size is None else size
        for axis, size in enumerate(x.shape)
    ]


def _known(shape):
    """A shape to reshape to, without tensors if only one size is unknown."""
    free = [axis for axis, size in enumerate(shape) if not _is_number(size)]
    if len(free) == 1:
        shape = [-1 if axis in free else n for axis, n in enumerate(shape)]
    return shape


def _is_number(size):
    return isinstance(size, int)


def steps(layer):
    """The number of steps of a recurrent layer, or `None` if it is free."""
    config = layer.get_build_config()
    shape = (
        config.get("input_shape") or config["shapes_dict"]["sequences_shape"]
    )
    return shape[1]
