"""Opening layers: the calls inside of one as a part of a model's graph.

A layer made of other layers is a small model: its `call`, given symbolic
tensors, makes the nodes of its inside. It is opened only where that is sure to
mean the same: training and test time lead to the same graph, and the graph
computes the same numbers.
"""

import contextlib
import functools
import inspect
import itertools
import re
import typing
import warnings
import weakref

import keras
import numpy as np
from keras.src.backend import get_keras_mask
from keras.src.backend import set_keras_mask
from keras.src.backend.common import global_state
from keras.src.layers.layer import CallContext
from keras.src.models.functional import Functional
from keras.src.ops.numpy import BroadcastTo
from keras.src.ops.numpy import Reshape
from keras.src.ops.symbolic_arguments import SymbolicArguments

from l0keras.copying import Copier
from l0keras.graph import lifting
from l0keras.graph.over_time import NotDistributed
from l0keras.graph.over_time import distribute
from l0keras.graph.positions import symbolic_positions
from l0keras.graph.rules.elementwise import Identity
from l0keras.graph.rules.table import rule_for

# The sizes that are tried where a shape leaves them free.
_SIZES = (8, 32, 5)
_TOLERANCE = 1e-5
_LAMBDA = keras.layers.Lambda
_OVER_TIME = keras.layers.TimeDistributed
# Primes that stand for sizes which are not known: that of the batch, and all
# others. Small ones, as a layer may make arrays of these sizes.
_STAND_INS = (61, *[67] * 4)
# What came of opening layers: for each kind of call the way that led there,
# or the reason why it could not be opened.
_outcomes = weakref.WeakKeyDictionary()


class Closed(Exception):
    """The reason why a layer cannot be opened."""


class Call:
    """A call inside of a layer, as a node of Keras has it.

    Attributes:
        operation: the layer of the caller's model, or an op.
        arguments: the `SymbolicArguments`, without `None` for masks and for
            `training`, which would hide those from outside, and without
            `None` where that is the default.
        input_tensors, outputs: lists of `KerasTensor`.
    """

    def __init__(self, node, operation, training):
        kwargs = {
            key: value
            for key, value in node.arguments.kwargs.items()
            if value is not None or not _may_leave_out(operation, key)
        }
        kwargs.pop("training", None)
        if training is not None:
            kwargs["training"] = training
        self.operation = operation
        self.arguments = SymbolicArguments(*node.arguments.args, **kwargs)
        self.input_tensors = self.arguments.keras_tensors
        self.outputs = node.outputs


def _may_leave_out(operation, key):
    """Whether an argument of a call that is `None` need not be given."""
    parameter = inspect.signature(operation.call).parameters.get(key)
    default = None if parameter is None else parameter.default
    return key in ("mask", "training") or (parameter and default is None)


class Inside:
    """What is in a layer.

    Attributes:
        inputs: a `KerasTensor` for each tensor that the layer is called with.
        outputs: those that the layer returns, flat.
        calls: a list of calls, each after those that it depends on.
    """

    def __init__(self, inputs, outputs, calls):
        self.inputs = inputs
        self.outputs = outputs
        self.calls = calls


def calls_between(inputs, outputs, reads=lambda call: call.input_tensors):
    """The nodes of Keras between tensors, in topological order.

    Args:
        inputs, outputs: lists of `KerasTensor`.
        reads: gives the tensors that a call depends on.

    Raises:
        Closed: an output depends on another input.
    """
    done = {id(tensor) for tensor in inputs}
    order = []
    stack = [(tensor, False) for tensor in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        if id(tensor) in done:
            continue
        history = tensor._keras_history
        if history.operation is None:
            raise Closed("depends on a tensor from outside")
        call = history.operation._inbound_nodes[history.node_index]
        if call.is_input:
            raise Closed("depends on an input from outside")
        if ready:
            order.append(call)
            done.update(id(output) for output in call.outputs)
            continue
        stack.append((tensor, True))
        stack.extend((t, False) for t in reversed(reads(call)))
    return order


def open_call(call):
    """Opens a layer where it is called.

    Args:
        call: a node of Keras, or a `Call`. Neither its layer nor the graph
            that it is in is changed: a copy with the same variables is traced.

    Returns:
        An `Inside`.

    Raises:
        Closed: it cannot be opened, or would not be the same.
    """
    if call.arguments.kwargs.get("training"):
        raise Closed("called in training mode")
    if type(call.operation) is _OVER_TIME:
        return _open_over_time(call)
    inside, outputs = _open(call, _fresh_inputs(call))
    flat = keras.tree.flatten(outputs)
    _check_outputs(call, flat)
    return inside


def _open_over_time(call):
    """Opens the layer inside of a `TimeDistributed`."""
    wrapper = call.operation
    others = [
        value
        for key, value in call.arguments.kwargs.items()
        if value is not None and key != "training"
    ]
    if others or len(call.input_tensors) != 1 or training_of(call) is False:
        raise Closed("called with further arguments")
    fresh = _fresh_inputs(call)
    (tensor,) = fresh.values()
    batch, _, *sizes = tensor.shape
    step = keras.Input(batch_shape=(batch, *sizes), dtype=tensor.dtype)
    inner = _TopCall(wrapper.layer, SymbolicArguments(step))
    inside, _ = _open(inner, {id(step): step})
    try:
        output = distribute(wrapper, inside, tensor)
    except NotDistributed as error:
        raise Closed(str(error)) from error
    except Exception as error:
        # Keras must know the shapes of what layers inside give out.
        raise Closed(_message(error)) from error
    _check_outputs(call, [output])
    _compare(wrapper, wrapper, call, fresh, [output])
    nodes = calls_between([tensor], [output])
    calls = [Call(node, node.operation, None) for node in nodes]
    return Inside([tensor], [output], calls)


def open_model(model):
    """Opens a subclassed model.

    Args:
        model: a built `keras.Model` with a `call` of its own. It is only read.

    Returns:
        Its inputs and outputs, each a `KerasTensor` or a structure of such,
        and an `Inside`. Inputs are float32, or int32 where an `Embedding`
        reads them: Keras does not note what a model was called with.

    Raises:
        Closed: it cannot be opened, or would not be the same.
    """
    shapes = list((model._build_shapes_dict or {}).values())
    if len(shapes) != 1 or shapes[0] is None:
        raise Closed(
            "it has not been called yet, so that its inputs are not known"
            if not model.built
            else "its inputs are not known"
        )
    dtypes = {}
    while True:
        inputs = _named_inputs(model, shapes[0], dtypes)
        flat = keras.tree.flatten(inputs)
        call = _TopCall(model, SymbolicArguments(inputs))
        inside, outputs = _open(call, {id(t): t for t in flat})
        whole = {
            id(t)
            for c in inside.calls
            if _reads_ids(c.operation)
            for t in c.input_tensors
        }
        found = {t.name: "int32" for t in flat if id(t) in whole}
        if found == dtypes:
            return inputs, outputs, inside
        dtypes = found


class _TopCall:
    """A call that is no node of Keras."""

    def __init__(self, operation, arguments):
        self.operation = operation
        self.arguments = arguments
        self.input_tensors = arguments.keras_tensors


def _reads_ids(operation):
    return isinstance(operation, keras.layers.Embedding)


def _named_inputs(model, shapes, dtypes):
    """New inputs for a model, called as the argument of its `call`."""
    parameters = inspect.signature(model.call).parameters
    base = next(iter(parameters), "inputs")
    count = itertools.count()

    def new(shape, name):
        return keras.Input(
            batch_shape=(None, *shape[1:]),
            name=name,
            dtype=dtypes.get(name, "float32"),
        )

    if isinstance(shapes, dict):
        return {key: new(shape, key) for key, shape in shapes.items()}
    several = not all(size is None or isinstance(size, int) for size in shapes)
    return keras.tree.map_shape_structure(
        lambda shape: new(shape, f"{base}_{next(count)}" if several else base),
        shapes,
    )


def _open(call, fresh):
    """Traces a layer on inputs that stand for those of a call.

    Where it computes with sizes that are not known it is traced with sizes
    that stand in for those, and what it did is done again without them.

    Returns:
        An `Inside`, and the outputs as the layer's `call` returns them.
    """
    layer = call.operation
    reason = _reason_to_stay(layer)
    if reason:
        raise Closed(reason)
    copier, copy = _copied(layer)
    outcomes = _outcomes.setdefault(layer, {})
    key = _key(call)
    if isinstance(outcomes.get(key), Closed):
        raise outcomes[key]
    if key in outcomes:
        return _open_copy(copy, copier, call, fresh, outcomes[key])
    reasons = []
    own = lifting.own_variables(layer)
    vectors = any(len(variable.shape) == 1 for variable in own)
    for way in _WAYS:
        if way.rows and not vectors:
            continue
        try:
            found = _open_copy(copy, copier, call, fresh, way)
            _compare(layer, copy, call, fresh, found[0].outputs)
        except _CannotRun as error:
            reasons.append(error)
            continue
        except Closed as error:
            reasons.append(error)
            if not way.rows:
                break
            continue
        outcomes[key] = way
        return found
    # Without what led to it, which would keep the layer alive.
    outcomes[key] = max(reasons, key=_weight).with_traceback(None)
    outcomes[key].__cause__ = outcomes[key].__context__ = None
    raise outcomes[key]


def _copied(layer):
    """A copier, and its copy of a layer, with the same variables."""
    copier = Copier(share_variables=True)
    try:
        copy = copier.layer(layer)
    except Exception as error:
        raise Closed(f"cannot be copied: {_message(error)}") from error
    for inner in copy._flatten_layers():
        _go_by_call(inner)
    return copier, copy


def _go_by_call(layer):
    """Lets a copy find out by its `call` what it gives out.

    Where a class has a `call` of its own, what it derives from may say that
    of another one, with other arguments.
    """
    classes = type(layer).__mro__
    calls, says = (
        next(i for i, kind in enumerate(classes) if name in vars(kind))
        for name in ("call", "compute_output_spec")
    )
    if says <= calls or classes[says] in (keras.Layer, keras.Operation):
        return
    layer.compute_output_spec = functools.partial(
        keras.Operation.compute_output_spec, layer
    )


def _weight(reason):
    """How much a reason tells."""
    if not isinstance(reason, _CannotRun):
        return 3
    return 2 * isinstance(reason, _DependsOnSize) + isinstance(
        reason, _NotShown
    )


def _key(call):
    """What decides whether a layer can be opened, beside the layer."""
    tensors = [(tuple(t.shape), t.dtype) for t in call.input_tensors]
    given = call.arguments.convert(
        lambda x: None if isinstance(x, keras.KerasTensor) else x
    )
    return repr((tensors, given))


class _Way(typing.NamedTuple):
    """A way to trace a layer.

    Attributes:
        stand_ins: sizes that stand in for those which are not known.
        unites: whether the layers inside of it that could be opened are
            traced along with it. They may hand each other what is no tensor.
        rows: whether vectors among the layer's own variables are matrices of
            one row, of which more is known where they are broadcast.
        positions: whether `ops.arange` counts along an axis of an input,
            instead of making a constant.
    """

    stand_ins: tuple = ()
    unites: bool = False
    rows: bool = False
    positions: bool = False


_WAYS = [
    _Way(stand_ins, unites, rows, positions)
    for positions in (False, True)
    for rows in (True, False)
    for unites in (False, True)
    for stand_ins in ((), _STAND_INS[:1], _STAND_INS)
]


def _unite(copy, unites):
    """Lets symbolic calls of the layers in a copy go right into them."""
    for layer in copy._flatten_layers(include_self=False):
        vars(layer).pop("symbolic_call", None)
        own = lifting.own_variables(layer)
        if (
            unites
            and may_open(layer)
            and not own
            and not _reason_to_stay(layer)
        ):
            vars(layer)["symbolic_call"] = layer.call


class _CannotRun(Closed):
    """It cannot be traced, or not be run as it was traced."""


class _NotShown(_CannotRun):
    """Variables are read for what is a constant in its graph."""


class _DependsOnSize(_CannotRun):
    """What is in a layer depends on a size that is not known."""


def _open_copy(copy, copier, call, fresh, way):
    layer = call.operation
    training = training_of(call)
    known = _fresh_inputs(call, way.stand_ins) if way.stand_ins else fresh
    lift = None
    if lifting.own_variables(layer):
        # Another one, that will have no variables of its own.
        copier, copy = _copied(layer)
        anchor = known[id(call.input_tensors[0])]
        lift = _lift(layer, copy, anchor, way.rows)
    _unite(copy, way.unites)

    def run(training):
        with contextlib.ExitStack() as stack:
            if way.positions:
                tensors = [known[id(t)] for t in call.input_tensors]
                stack.enter_context(symbolic_positions(tensors))
            traced = _trace(copy, call, known, training)
        return _replay(traced, known, fresh, way.stand_ins, lift)

    outputs = run(False)
    runs = [keras.tree.flatten(outputs)]
    if training is None:
        runs.append(keras.tree.flatten(run(True)))
    inputs = [fresh[id(tensor)] for tensor in call.input_tensors]
    orders = [calls_between(inputs, flat) for flat in runs]
    _check_same_graph(orders, runs, inputs)
    _check_variables(copy, orders[0], lift)
    originals = copier.originals()
    _check_tracked(copy, orders[0], originals)
    calls = []
    for nodes in zip(*orders):
        operation = originals.get(id(nodes[0].operation), nodes[0].operation)
        given = [node.arguments.kwargs.get("training") for node in nodes]
        value = given[0] if len(set(given)) == 1 else None
        if training is False and value is None and _takes_training(operation):
            value = False
        calls.append(Call(nodes[0], operation, value))
        if value is False and not _same_in_training(calls[-1]):
            raise Closed(
                f"calls its '{operation.name}' with training=False, which a "
                "functional model would not hold to in training"
            )
    return Inside(inputs, runs[0], calls), outputs


def _lift(layer, copy, anchor, rows):
    try:
        return lifting.Lift(layer, copy, anchor, rows)
    except Exception as error:
        raise _CannotRun(
            f"has variables of its own ({_message(error)})"
        ) from error


def _same_in_training(call):
    """Whether a layer that is called for test time is so in training too."""
    layer = call.operation
    if not _takes_training(layer) or does_nothing(call):
        return True
    if isinstance(layer, keras.layers.BatchNormalization):
        return not layer.trainable
    if may_open(layer):
        try:
            open_call(call)
        except Closed:
            return False
        return True
    rates = (getattr(layer, key, 0) for key in ("dropout", "recurrent_dropout"))
    return rule_for(type(layer)) and not any(rates)


def does_nothing(call):
    """Whether a call hands on its input, in training as at test time."""
    rule = rule_for(type(call.operation))
    return isinstance(rule, Identity) and training_of(call) is False


def training_of(call):
    """Whether a layer is called in training mode; `None` if as the model is.

    A functional model hands its own mode on to all of its layers, over a
    `training=False` that they were called with. Only in a `call` that is
    written down it counts.
    """
    training = call.arguments.kwargs.get("training")
    if training is False and not isinstance(call, Call):
        return None
    return training


def may_open(layer):
    """Whether a layer is one to be opened, if that is possible."""
    if is_functional(layer):
        return True
    if type(layer) is _OVER_TIME:
        return may_open(layer.layer)
    if not isinstance(layer, keras.Layer) or rule_for(type(layer)):
        return False
    place = type(layer).__module__.partition(".")[0]
    return place not in ("keras", "l0keras") or type(layer) is _LAMBDA


def is_functional(model):
    return isinstance(model, (Functional, keras.Sequential)) and type(
        model
    ).call in (Functional.call, keras.Sequential.call)


def _message(error):
    """What an error says, in one line."""
    text = str(error)
    # Keras says first where an error was, then the error in bold.
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL)
    lines = (bold.group(1) if bold else text).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _reason_to_stay(layer):
    """Why a layer is not to be opened, whatever its `call` does, or `None`."""
    if layer._seed_generators:
        return "draws random numbers of its own"
    if getattr(layer, "quantization_mode", None):
        return f"quantized to {layer.quantization_mode}"
    if layer.activity_regularizer is not None:
        return "has an activity regularizer of its own"
    return lifting.refuses(layer)


def _takes_training(layer):
    return getattr(layer, "_call_has_training_arg", False)


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


def _fresh_inputs(call, stand_ins=()):
    """New inputs in the place of the tensors of a call, by their ids.

    Args:
        call: the call.
        stand_ins: sizes for the axes that have none, in their order.
    """
    fresh = {}
    for tensor in call.input_tensors:
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
        if mask is None:
            continue
        if id(mask) not in fresh:
            raise Closed("its input carries a mask that it is not given")
        set_keras_mask(fresh[id(tensor)], fresh[id(mask)])
    return fresh


def _arguments(layer, call, of, training):
    """The arguments of a call with other things in the place of tensors."""
    args, kwargs = call.arguments.convert(
        lambda x: of(x) if isinstance(x, keras.KerasTensor) else x
    )
    kwargs.pop("training", None)
    if _takes_training(layer):
        kwargs["training"] = training
    return args, kwargs


def _trace(copy, call, fresh, training):
    def given(tensor):
        new = fresh[id(tensor)]
        cast = copy.dtype_policy.convert_input(
            new, copy.autocast, copy.input_dtype
        )
        if cast is not new and get_keras_mask(new) is not None:
            set_keras_mask(cast, get_keras_mask(new))
        return cast

    args, kwargs = _arguments(copy, call, given, training)
    try:
        with warnings.catch_warnings():
            # Of masks that end, as they do where the model itself was built.
            warnings.simplefilter("ignore")
            with _context(copy, training), _Watch() as watch:
                outputs = copy.call(*args, **kwargs)
    except Exception as error:
        raise _CannotRun(_message(error)) from error
    watch.check()
    flat = keras.tree.flatten(outputs)
    if not flat or not all(isinstance(x, keras.KerasTensor) for x in flat):
        raise Closed("returns something else than tensors")
    return outputs


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
            raise _not_shown(self._read[0])


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


def _replay(outputs, known, fresh, stand_ins, lift=None):
    """Does on other inputs what led from `known` to `outputs`.

    Products with variables that a layer has itself are made by layers.

    Args:
        outputs: a structure of tensors.
        known: inputs with sizes that stand in for unknown ones.
        fresh: those in their places, by the same ids.
        stand_ins: the sizes.
        lift: the `Lift` of the layer, if it has variables.

    Returns:
        A structure of tensors like `outputs`.
    """
    if not stand_ins and lift is None:
        return outputs
    tensors = {id(known[key]): fresh[key] for key in known}

    def other(x):
        if isinstance(x, keras.KerasTensor):
            return tensors[id(x)]
        if any(_stands_in(n, stand_ins) for n in getattr(x, "shape", ())):
            return _shared_part(x, stand_ins)
        return x

    flat = keras.tree.flatten(outputs)
    order = calls_between(list(known.values()), flat)
    products = _products(lift, order, flat) if lift else {}
    for node in order:
        if id(node.outputs[0]) in tensors:
            continue
        if id(node) in products:
            dense, end = products[id(node)]
            given = keras.tree.flatten(
                (node.arguments.args, node.arguments.kwargs)
            )
            tensors[id(end.outputs[0])] = dense(other(given[0]))
            tensors.setdefault(id(node.outputs[0]), None)
            continue
        args, kwargs = keras.tree.map_structure(
            other, (node.arguments.args, node.arguments.kwargs)
        )
        operation = node.operation
        if _broadcasts_later(node, stand_ins):
            given = other(node.input_tensors[0])
            more = len(node.outputs[0].shape) - len(given.shape)
            if more:
                given = keras.ops.expand_dims(given, tuple(range(more)))
            tensors[id(node.outputs[0])] = given
            continue
        if not isinstance(operation, keras.Layer):
            operation = _of_any_size(node, stand_ins)
        try:
            results = keras.tree.flatten(operation(*args, **kwargs))
        except Exception as error:
            raise _CannotRun(_message(error)) from error
        for tensor, result in zip(node.outputs, results, strict=True):
            tensors[id(tensor)] = result
    return keras.tree.map_structure(other, outputs)


def _broadcasts_later(node, stand_ins):
    """Whether a call only repeats a tensor along sizes that are not known.

    Most of what reads it does that by itself.
    """
    if not isinstance(node.operation, BroadcastTo):
        return False
    (given,), (made,) = node.input_tensors, node.outputs
    sizes = (1,) * (len(made.shape) - len(given.shape)) + tuple(given.shape)
    return all(
        one == other or (one == 1 and _stands_in(other, stand_ins))
        for one, other in zip(sizes, made.shape, strict=True)
    )


def _products(lift, order, outputs):
    try:
        return lift.products(order, outputs)
    except lifting.NotLifted as error:
        raise Closed(f"has variables of its own: {error}") from error


def _shared_part(constant, stand_ins):
    """A constant of size 1 where its size is not known: it will broadcast.

    Such as a causal mask that was made for each example of a batch.
    """
    array = keras.ops.convert_to_numpy(constant)
    for axis, size in enumerate(array.shape):
        if _stands_in(size, stand_ins):
            first = array.take([0], axis)
            if np.any(array != first):
                raise _DependsOnSize(
                    "makes constants of a size that is not known; call the "
                    "model on inputs of a fixed size"
                )
            array = first
    return keras.ops.convert_to_tensor(array)


def _stands_in(number, stand_ins):
    return (
        isinstance(number, int)
        and number != 0
        and any(number % size == 0 for size in stand_ins)
    )


def _of_any_size(node, stand_ins):
    """An op that does not say what sizes there are.

    A shape may leave out one of its sizes, so that is what it does with one
    that is not known.
    """
    operation = node.operation
    copy = object.__new__(type(operation))
    vars(copy).update(vars(operation), _inbound_nodes=[], _outbound_nodes=[])
    for key, value in vars(operation).items():
        if key.startswith("_"):
            continue
        sizes = keras.tree.flatten(value)
        if not any(_stands_in(n, stand_ins) for n in sizes):
            continue
        if not isinstance(operation, Reshape):
            raise _DependsOnSize(
                f"{type(operation).__name__} needs a size that is not known"
            )
        sizes = [
            -1 if _stands_in(size, stand_ins) else size
            for size in node.outputs[0].shape
        ]
        if sizes.count(-1) > 1:
            raise _DependsOnSize("Reshape needs two sizes that are not known")
        # By its constructor, which notes what will be saved.
        return Reshape(tuple(sizes), name=operation.name)
    return copy


def _check_variables(copy, order, lift):
    """Refuses a layer of which the graph does not have all variables.

    Such as one that looks up an embedding at constant positions: in a graph
    that is a constant, which does not train.
    """
    found = set()
    for node in order:
        for given in keras.tree.flatten(
            (node.arguments.args, node.arguments.kwargs)
        ):
            if isinstance(given, keras.Variable):
                raise _not_shown(given)
        for variable in getattr(node.operation, "variables", ()):
            found.add(id(variable))
    if lift is not None:
        found.update(map(id, lift.used))
    for variable in copy.variables:
        if id(variable) not in found and not _is_metric(copy, variable):
            raise _not_shown(variable)


def _check_tracked(copy, order, originals):
    """Refuses a layer that calls others which its model does not know.

    Such as those in the closure of a function: they would begin to train.
    """
    known = {id(layer) for layer in copy._flatten_layers()}
    for node in order:
        layer = node.operation
        if id(layer) in known or id(layer) not in originals:
            continue
        if getattr(layer, "trainable_variables", ()):
            raise Closed(
                f"calls '{layer.name}', which is no attribute of it and does "
                "not train with it"
            )


def _not_shown(variable):
    return _NotShown(
        f"its variable '{variable.path}' is read where its graph does not "
        "show it"
    )


def _is_metric(layer, variable):
    metrics = getattr(layer, "metrics_variables", ())
    return any(variable is metric for metric in metrics)


def _check_same_graph(orders, runs, inputs):
    if len(orders) == 1:
        return
    first, second = (
        _signature(order, outputs, inputs)
        for order, outputs in zip(orders, runs)
    )
    if first != second:
        raise Closed("does something else in training")


def _signature(order, outputs, inputs):
    """A graph as a list of strings, but for what `training` is."""
    numbers = {id(tensor): str(i) for i, tensor in enumerate(inputs)}

    def number(x):
        if isinstance(x, keras.KerasTensor):
            return f"tensor {numbers.get(id(x))}"
        return _exactly(x)

    lines = []
    for node in order:
        args, kwargs = node.arguments.convert(number)
        kwargs.pop("training", None)
        kwargs = {k: v for k, v in kwargs.items() if v != "None"}
        operation = node.operation
        name = id(operation)
        if not isinstance(operation, keras.Layer):
            settings = {
                key: keras.tree.map_structure(_exactly, value)
                for key, value in vars(operation).items()
                if key != "name" and not key.startswith("_")
            }
            name = type(operation), repr(settings)
        elif rule_for(type(operation)) and not operation.variables:
            # It may be made in each call, as by `layers.concatenate`.
            config = {**operation.get_config(), "name": None}
            name = type(operation), repr(config)
        lines.append(repr((name, args, sorted(kwargs.items()))))
        for output in node.outputs:
            numbers[id(output)] = str(len(numbers))
    return [*lines, *map(number, outputs)]


def _exactly(x):
    """What tells a thing from others; `repr` leaves out most of an array."""
    if isinstance(x, np.ndarray) or keras.ops.is_tensor(x):
        array = keras.ops.convert_to_numpy(x)
        return repr((array.dtype, array.shape, array.tobytes()))
    return repr(x)


def _check_outputs(call, outputs):
    if not _alike(outputs, call.outputs):
        raise Closed("returns other shapes than it has in the model")
    for own, outer in zip(outputs, call.outputs):
        if own.dtype != outer.dtype:
            raise Closed("returns another dtype than it has in the model")
        if get_keras_mask(own) is not None and get_keras_mask(outer) is None:
            raise Closed("ends the mask of its input")


def _alike(tensors, others):
    """Whether tensors may have the same shapes."""
    return len(tensors) == len(others) and all(
        len(a.shape) == len(b.shape)
        and all(m == n or None in (m, n) for m, n in zip(a.shape, b.shape))
        for a, b in zip(tensors, others)
    )


def _compare(layer, copy, call, fresh, outputs):
    """Refuses an inside that computes something else than the layer."""
    try:
        inside = keras.Model(list(fresh.values()), outputs)
    except Exception as error:
        raise Closed(_message(error)) from error
    reasons = []
    for size in _SIZES:
        try:
            # Of two numbers of examples, so that none is taken for granted.
            pairs = [
                _outputs_of_both(layer, copy, inside, call, fresh, size, batch)
                for batch in (2, 5)
            ]
        except Exception as error:
            reasons.append(_message(error))
            continue
        for expected, got in itertools.chain.from_iterable(pairs):
            _check_equal(expected, got)
        _check_other_sizes(layer, copy, inside, call, fresh, size)
        return
    raise _CannotRun(f"cannot be run on random inputs ({reasons[0]})")


def _check_other_sizes(layer, copy, inside, call, fresh, size):
    """Tries sizes that need not be the same, if the layer takes them."""
    free = [tuple(tensor.shape)[1:].count(None) for tensor in fresh.values()]
    if sum(map(bool, free)) > 1:
        _check_unlike(layer, copy, inside, call, fresh, size, "tensors")
    if max(free) > 1:
        _check_unlike(layer, copy, inside, call, fresh, size, "axes")


def _check_unlike(layer, copy, inside, call, fresh, size, unlike):
    arrays = _random(fresh, size, _known_sizes(layer), 2, unlike)
    args, kwargs = _arguments(copy, call, lambda t: arrays[id(t)], False)
    try:
        with keras.StatelessScope(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy(*args, **kwargs)
    except Exception:
        return
    try:
        pairs = _outputs_of_both(
            layer, copy, inside, call, fresh, size, 2, unlike
        )
    except Exception as error:
        raise Closed("takes sizes that it does not when opened") from error
    for expected, got in pairs:
        _check_equal(expected, got)


def _outputs_of_both(
    layer, copy, inside, call, fresh, size, batch, unlike=None
):
    """Pairs of outputs of a layer and of its inside, for random inputs."""
    arrays = _random(fresh, size, _known_sizes(layer), batch, unlike)
    masks = {id(tensor): arrays[key] for key, tensor in fresh.items()}
    for key, tensor in fresh.items():
        mask = get_keras_mask(tensor)
        if mask is not None:
            set_keras_mask(arrays[key], masks[id(mask)])
    args, kwargs = _arguments(
        copy, call, lambda tensor: arrays[id(tensor)], False
    )
    # What the layer may write to its variables goes nowhere.
    with keras.StatelessScope(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = keras.tree.flatten(copy(*args, **kwargs))
        got = keras.tree.flatten(inside(list(arrays.values()), training=False))
    # Those that are only handed on are known outside.
    for tensor in [*expected, *got]:
        if any(get_keras_mask(tensor) is array for array in masks.values()):
            set_keras_mask(tensor, None)
    return zip(expected, got, strict=True)


def _check_equal(one, other):
    masks = get_keras_mask(one), get_keras_mask(other)
    if (masks[0] is None) != (masks[1] is None):
        raise Closed("makes masks that its graph does not show")
    one, other = map(keras.ops.convert_to_numpy, (one, other))
    one, other = one.astype("float64"), other.astype("float64")
    scale = max(1.0, np.max(np.abs(one), initial=0.0))
    if one.shape != other.shape or not np.allclose(
        one, other, rtol=0, atol=_TOLERANCE * scale, equal_nan=True
    ):
        raise Closed("computes something else when it is opened")


def _known_sizes(layer):
    """The sizes of the inputs that a layer was built with, by their ranks."""
    inner = getattr(layer, "_functional", layer)
    shapes = [
        tuple(tensor.shape)
        for tensor in keras.tree.flatten(getattr(inner, "_inputs_struct", []))
    ]
    return {len(shape): shape for shape in reversed(shapes)}


def _random(fresh, size, known_sizes, examples, unlike=None):
    rng = np.random.default_rng(0)
    arrays = {}
    for key, tensor in fresh.items():
        size += unlike == "tensors"
        batch, *others = tensor.shape
        built = known_sizes.get(len(tensor.shape), tensor.shape)[1:]
        step = unlike == "axes"
        sizes = [
            n or known or size + axis * step
            for axis, (n, known) in enumerate(zip(others, built))
        ]
        shape = (batch or examples, *sizes)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if dtype == "bool":
            array = np.ones(shape, bool)
            if len(shape) > 1:
                # As masks are: an end of some examples.
                array[1::2, (shape[1] + 1) // 2 :] = False
        elif "int" in dtype:
            array = rng.integers(0, 2, shape)
        else:
            array = rng.normal(size=shape)
        arrays[key] = keras.ops.cast(keras.ops.convert_to_tensor(array), dtype)
    return arrays
