"""What stands for the tensors of a call: new inputs, and random arrays."""

import keras
import numpy as np
from keras.src.backend import get_keras_mask
from keras.src.backend import set_keras_mask

from l0keras.graph.opening.calls import takes_training
from l0keras.graph.opening.closed import Closed


def riding_masks(call):
    """Masks on the tensors of a call that are not among these themselves.

    Returns:
        A list of `KerasTensor`, each of which is there once.
    """
    known = {id(tensor) for tensor in call.input_tensors}
    masks = []
    for tensor in call.input_tensors:
        mask = get_keras_mask(tensor)
        if mask is not None and id(mask) not in known:
            known.add(id(mask))
            masks.append(mask)
    return masks


def fresh_inputs(call, stand_ins=()):
    """New inputs in the place of the tensors of a call, by their ids.

    Masks that ride on these have inputs, too, and ride on the new ones.

    Args:
        call: the call.
        stand_ins: sizes for the axes that have none, in their order.
    """
    fresh = {}
    for tensor in [*call.input_tensors, *riding_masks(call)]:
        if _is_sparse(tensor) or getattr(tensor, "ragged", False):
            raise Closed("its input is sparse or ragged")
        shape = [
            stand_ins[axis] if size is None and axis < len(stand_ins) else size
            for axis, size in enumerate(tensor.shape)
        ]
        if id(tensor) not in fresh:
            fresh[id(tensor)] = keras.Input(
                batch_shape=shape, dtype=tensor.dtype
            )
    for tensor in call.input_tensors:
        mask = get_keras_mask(tensor)
        if mask is not None:
            set_keras_mask(fresh[id(tensor)], fresh[id(mask)])
    return fresh


def _is_sparse(tensor):
    """Whether a tensor may be sparse, whatever Keras says of it.

    It says so of any product with a number.
    """
    if not getattr(tensor, "sparse", False):
        return False
    history = tensor._keras_history
    if isinstance(history.operation, keras.Layer):
        return True
    call = history.operation._inbound_nodes[history.node_index]
    return any(map(_is_sparse, call.input_tensors))


def arguments_of(layer, call, of, training):
    """The arguments of a call with other things in the place of tensors."""
    args, kwargs = call.arguments.convert(
        lambda x: of(x) if isinstance(x, keras.KerasTensor) else x
    )
    kwargs.pop("training", None)
    if takes_training(layer):
        kwargs["training"] = training
    return args, kwargs


def random_arrays(fresh, size, by_rank, examples, unlike=None):
    """Random arrays for new inputs, by the keys of these.

    Args:
        fresh: a dictionary of `KerasTensor`.
        size: a size for axes that have none.
        by_rank: as of `known_sizes`.
        examples: how many.
        unlike: `"tensors"` or `"axes"`, which then get different sizes.
    """
    rng = np.random.default_rng(0)
    arrays = {}
    masks = 0
    for key, tensor in fresh.items():
        size += unlike == "tensors"
        batch, *others = tensor.shape
        built = by_rank.get(len(tensor.shape), tensor.shape)[1:]
        step = unlike == "axes"
        sizes = [
            n or known or size + axis * step
            for axis, (n, known) in enumerate(zip(others, built))
        ]
        shape = (batch or examples, *sizes)
        for other, array in arrays.items():
            if get_keras_mask(fresh[other]) is tensor:
                shape = tuple(array.shape)[: len(shape)]
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if dtype == "bool":
            array = np.ones(shape, bool)
            if len(shape) > 1:
                # As masks are: an end of some examples, of each another one.
                masks += 1
                array[1::2, max(1, (shape[1] + 2) // 2 - masks) :] = False
        elif "int" in dtype:
            array = rng.integers(0, 2, shape)
        else:
            array = rng.normal(size=shape)
        arrays[key] = keras.ops.cast(keras.ops.convert_to_tensor(array), dtype)
    return arrays


def known_sizes(layer):
    """The sizes of the inputs that a layer was built with, by their ranks."""
    inner = getattr(layer, "_functional", layer)
    shapes = [
        tuple(tensor.shape)
        for tensor in keras.tree.flatten(getattr(inner, "_inputs_struct", []))
    ]
    return {len(shape): shape for shape in reversed(shapes)}
