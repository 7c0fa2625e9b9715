"""Refuses an inside that computes something else than its layer."""

import functools
import itertools
import warnings

import keras
import numpy as np
from keras.src.backend import get_keras_mask
from keras.src.backend import set_keras_mask

from l0keras.graph.opening.closed import CannotRun
from l0keras.graph.opening.closed import Closed
from l0keras.graph.opening.closed import message
from l0keras.graph.opening.inputs import arguments_of
from l0keras.graph.opening.inputs import known_sizes
from l0keras.graph.opening.inputs import random_arrays
from l0keras.graph.opening.may_open import is_functional

# The sizes that are tried where a shape leaves them free.
_SIZES = (8, 32, 5)
_TOLERANCE = 1e-5


def check_outputs(call, outputs):
    """Refuses outputs that are not like those of the call in its model."""
    if not _alike(outputs, call.outputs):
        raise Closed("returns other shapes than it has in the model")
    for own, outer in zip(outputs, call.outputs):
        if own.dtype != outer.dtype:
            raise Closed("returns another dtype than it has in the model")
        if get_keras_mask(own) is None or get_keras_mask(outer) is not None:
            continue
        # Of models Keras does not tell that they hand on masks.
        if not is_functional(call.operation):
            raise Closed("ends the mask of its input")


def _alike(tensors, others):
    """Whether tensors may have the same shapes."""
    return len(tensors) == len(others) and all(
        len(a.shape) == len(b.shape)
        and all(m == n or None in (m, n) for m, n in zip(a.shape, b.shape))
        for a, b in zip(tensors, others)
    )


def compare(layer, copy, call, fresh, outputs, hands_on=False):
    """Refuses an inside that computes something else than the layer.

    Args:
        layer: the layer.
        copy: a copy of it.
        call: its call.
        fresh: the inputs of its inside, by the ids of the call's tensors.
        outputs: the outputs of its inside.
        hands_on: whether these must carry the masks of the layer's outputs.
    """
    try:
        inside = keras.Model(list(fresh.values()), outputs)
    except Exception as error:
        raise Closed(message(error)) from error
    both = functools.partial(
        _outputs_of_both, layer, copy, inside, call, fresh, hands_on
    )
    reasons = []
    for size in _SIZES:
        try:
            # Of two numbers of examples, so that none is taken for granted.
            pairs = [both(size, batch) for batch in (2, 5)]
        except Exception as error:
            reasons.append(message(error))
            continue
        for expected, got in itertools.chain.from_iterable(pairs):
            _check_equal(expected, got)
        _check_other_sizes(layer, copy, call, fresh, size, both)
        return
    raise CannotRun(f"cannot be run on random inputs ({reasons[0]})")


def _check_other_sizes(layer, copy, call, fresh, size, both):
    """Tries sizes that need not be the same, if the layer takes them."""
    free = [tuple(tensor.shape)[1:].count(None) for tensor in fresh.values()]
    if sum(map(bool, free)) > 1:
        _check_unlike(layer, copy, call, fresh, size, both, "tensors")
    if max(free) > 1:
        _check_unlike(layer, copy, call, fresh, size, both, "axes")


def _check_unlike(layer, copy, call, fresh, size, both, unlike):
    arrays = random_arrays(fresh, size, known_sizes(layer), 2, unlike)
    args, kwargs = arguments_of(copy, call, lambda t: arrays[id(t)], False)
    try:
        with keras.StatelessScope(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy(*args, **kwargs)
    except Exception:
        return
    try:
        pairs = both(size, 2, unlike)
    except Exception as error:
        raise Closed("takes sizes that it does not when opened") from error
    for expected, got in pairs:
        _check_equal(expected, got)


def _outputs_of_both(
    layer, copy, inside, call, fresh, hands_on, size, batch, unlike=None
):
    """Pairs of outputs of a layer and of its inside, for random inputs."""
    arrays = random_arrays(fresh, size, known_sizes(layer), batch, unlike)
    masks = {id(tensor): arrays[key] for key, tensor in fresh.items()}
    args, kwargs = arguments_of(
        copy, call, lambda tensor: arrays[id(tensor)], False
    )

    def outputs_of(layer, *args, **kwargs):
        # Attention takes masks off its inputs.
        for key, tensor in fresh.items():
            mask = get_keras_mask(tensor)
            if mask is not None:
                set_keras_mask(arrays[key], masks[id(mask)])
        return keras.tree.flatten(layer(*args, **kwargs))

    # What the layer may write to its variables goes nowhere.
    with keras.StatelessScope(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = outputs_of(copy, *args, **kwargs)
        got = outputs_of(inside, list(arrays.values()), training=False)
    # Those that are only handed on, or that Keras tells, are known outside.
    told = [get_keras_mask(t) is not None for t in getattr(call, "outputs", ())]
    for tensor, own, is_told in zip(
        expected, got, told or [False] * len(got), strict=True
    ):
        mask = get_keras_mask(tensor)
        handed_on = any(mask is array for array in masks.values())
        known = not hands_on and (is_told or handed_on)
        if known and get_keras_mask(own) is None:
            set_keras_mask(tensor, None)
    return zip(expected, got, strict=True)


def _check_equal(one, other):
    masks = get_keras_mask(one), get_keras_mask(other)
    if (masks[0] is None) != (masks[1] is None):
        raise Closed("makes masks that its graph does not show")
    if masks[0] is not None and not np.array_equal(
        *map(keras.ops.convert_to_numpy, masks)
    ):
        raise Closed("makes other masks when it is opened")
    one, other = map(keras.ops.convert_to_numpy, (one, other))
    one, other = one.astype("float64"), other.astype("float64")
    scale = max(1.0, np.max(np.abs(one), initial=0.0))
    if one.shape != other.shape or not np.allclose(
        one, other, rtol=0, atol=_TOLERANCE * scale, equal_nan=True
    ):
        raise Closed("computes something else when it is opened")
