"""Runs the `call` of a layer on symbolic tensors, and watches it."""

import contextlib
import inspect

import keras
from keras.src.backend import get_keras_mask
from keras.src.backend import set_keras_mask
from keras.src.backend.common import global_state
from keras.src.layers.layer import CallContext

from l0keras.graph.opening.closed import CannotRun
from l0keras.graph.opening.closed import Closed
from l0keras.graph.opening.closed import message
from l0keras.graph.opening.inputs import arguments_of
from l0keras.graph.opening.same_graph import not_shown


def trace_call(copy, call, fresh, training):
    """Runs the `call` of a layer's copy on new inputs.

    Args:
        copy: the copy.
        call: the call of the layer itself.
        fresh: the inputs, by the ids of the call's tensors.
        training: the mode.

    Returns:
        What `call` returns, a structure of `KerasTensor`.

    Raises:
        Closed: it cannot run, or does more than make a graph.
    """

    def given(tensor):
        new = fresh[id(tensor)]
        cast = copy.dtype_policy.convert_input(
            new, copy.autocast, copy.input_dtype
        )
        if cast is not new and get_keras_mask(new) is not None:
            set_keras_mask(cast, get_keras_mask(new))
        return cast

    args, kwargs = arguments_of(copy, call, given, training)
    kwargs.update(_masks(copy, args, kwargs))
    try:
        with _context(copy, training), _Watch() as watch:
            outputs = copy.call(*args, **kwargs)
    except Exception as error:
        raise CannotRun(message(error)) from error
    watch.check()
    flat = keras.tree.flatten(outputs)
    if not flat or not all(isinstance(x, keras.KerasTensor) for x in flat):
        raise Closed("returns something else than tensors")
    return outputs


def _masks(layer, args, kwargs):
    """The masks that Keras would give to a layer's `call`, by argument."""
    signature = inspect.signature(layer.call)
    given = signature.bind(*args, **kwargs).arguments
    tensors = {
        name: value
        for name, value in given.items()
        if any(
            isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(value)
        )
    }
    found = {}
    for name, value in tensors.items():
        key = "mask" if len(tensors) == 1 else f"{name}_mask"
        if key in signature.parameters and given.get(key) is None:
            found[key] = keras.tree.map_structure(get_keras_mask, value)
    return found


class _Watch(keras.StatelessScope):
    """Notes what a `call` does beside making a graph.

    What it computes right away is a constant in that graph.
    """

    def __init__(self):
        super().__init__(collect_losses=True)
        self._read = []

    def get_current_value(self, variable):
        self._read.append(variable)
        return super().get_current_value(variable)

    def check(self):
        if self.losses:
            raise Closed("adds losses")
        if self.state_mapping:
            raise Closed("writes to variables or draws random numbers")
        if self._read:
            raise not_shown(self._read[0])


@contextlib.contextmanager
def _context(layer, training):
    """What layers inside of a layer find when it is called by a model.

    They are in the mode of that call, unless they are told another one.
    """
    before = global_state.get_global_attribute("current_call_ctx")
    context = CallContext(entry_layer=layer)
    context.set_value("training", training)
    global_state.set_global_attribute("current_call_ctx", context)
    try:
        yield
    finally:
        global_state.set_global_attribute("current_call_ctx", before)
