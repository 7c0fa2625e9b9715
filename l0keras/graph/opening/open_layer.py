"""Opens a layer where it is called, and a subclassed model."""

import contextlib
import functools
import inspect
import itertools
import warnings
import weakref

import keras
from keras.src.backend import get_keras_mask
from keras.src.ops.symbolic_arguments import SymbolicArguments

from l0keras.copying import Copier
from l0keras.graph.opening import lifting
from l0keras.graph.opening.calls import Call
from l0keras.graph.opening.calls import Inside
from l0keras.graph.opening.calls import TopCall
from l0keras.graph.opening.calls import calls_between
from l0keras.graph.opening.calls import takes_training
from l0keras.graph.opening.calls import training_of
from l0keras.graph.opening.closed import CannotRun
from l0keras.graph.opening.closed import Closed
from l0keras.graph.opening.closed import DependsOnSize
from l0keras.graph.opening.closed import NotShown
from l0keras.graph.opening.closed import message
from l0keras.graph.opening.compare import check_outputs
from l0keras.graph.opening.compare import compare
from l0keras.graph.opening.inputs import fresh_inputs
from l0keras.graph.opening.inputs import riding_masks
from l0keras.graph.opening.masks import tensors_to_open
from l0keras.graph.opening.may_open import does_nothing
from l0keras.graph.opening.may_open import may_open
from l0keras.graph.opening.may_open import reason_to_stay
from l0keras.graph.opening.over_time import NotDistributed
from l0keras.graph.opening.over_time import distribute
from l0keras.graph.opening.positions import symbolic_positions
from l0keras.graph.opening.replay import replay
from l0keras.graph.opening.same_graph import check_same_graph
from l0keras.graph.opening.same_graph import check_tracked
from l0keras.graph.opening.same_graph import check_variables
from l0keras.graph.opening.tracing import trace_call
from l0keras.graph.opening.ways import WAYS
from l0keras.graph.rules.table import rule_for

# What came of opening layers: for each kind of call the way that led there,
# or the reason why it could not be opened.
_outcomes = weakref.WeakKeyDictionary()


def open_call(call, hands_on=False):
    """Opens a layer where it is called.

    Args:
        call: a node of Keras, or a `Call`. Neither its layer nor the graph
            that it is in is changed: a copy with the same variables is traced.
        hands_on: whether masks are to go through sums, as through layers.

    Returns:
        An `Inside`.

    Raises:
        Closed: it cannot be opened, or would not be the same.
    """
    if call.arguments.kwargs.get("training"):
        raise Closed("called in training mode")
    if type(call.operation) is keras.layers.TimeDistributed:
        return _open_over_time(call)
    inside, _ = _open(call, fresh_inputs(call), hands_on)
    check_outputs(call, inside.outputs)
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
    if riding_masks(call):
        raise Closed("its input carries a mask")
    fresh = fresh_inputs(call)
    (tensor,) = fresh.values()
    batch, _, *sizes = tensor.shape
    step = keras.Input(batch_shape=(batch, *sizes), dtype=tensor.dtype)
    inner = TopCall(wrapper.layer, SymbolicArguments(step))
    inside, _ = _open(inner, {id(step): step})
    try:
        output = distribute(wrapper, inside, tensor)
    except NotDistributed as error:
        raise Closed(str(error)) from error
    except Exception as error:
        # Keras must know the shapes of what layers inside give out.
        raise Closed(message(error)) from error
    check_outputs(call, [output])
    compare(wrapper, wrapper, call, fresh, [output])
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
        call = TopCall(model, SymbolicArguments(inputs))
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


def _open(call, fresh, hands_on=False):
    """Traces a layer on inputs that stand for those of a call.

    Where it computes with sizes that are not known it is traced with sizes
    that stand in for those, and what it did is done again without them.

    Returns:
        An `Inside`, and the outputs as the layer's `call` returns them.
    """
    layer = call.operation
    reason = reason_to_stay(layer)
    if reason:
        raise Closed(reason)
    outcomes = _outcomes.setdefault(layer, {})
    key = _key(call), hands_on
    if isinstance(outcomes.get(key), Closed):
        raise outcomes[key]
    copier, copy = _copied(layer)
    if key in outcomes:
        return _open_copy(copy, copier, call, fresh, outcomes[key], hands_on)
    reasons = []
    own = lifting.own_variables(layer)
    vectors = any(len(variable.shape) == 1 for variable in own)
    for way in WAYS:
        if way.rows and not vectors:
            continue
        try:
            found = _open_copy(copy, copier, call, fresh, way, hands_on)
            compare(layer, copy, call, fresh, found[0].outputs, hands_on)
        except CannotRun as error:
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
        raise Closed(f"cannot be copied: {message(error)}") from error
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
    if not isinstance(reason, CannotRun):
        return 3
    return 2 * isinstance(reason, DependsOnSize) + isinstance(reason, NotShown)


def _key(call):
    """What decides whether a layer can be opened, beside the layer."""
    tensors = [
        (tuple(t.shape), t.dtype, get_keras_mask(t) is not None)
        for t in call.input_tensors
    ]
    given = call.arguments.convert(
        lambda x: None if isinstance(x, keras.KerasTensor) else x
    )
    return repr((tensors, given))


def _unite(copy, unites):
    """Lets symbolic calls of the layers in a copy go right into them."""
    for layer in copy._flatten_layers(include_self=False):
        vars(layer).pop("symbolic_call", None)
        own = lifting.own_variables(layer)
        if unites and may_open(layer) and not own and not reason_to_stay(layer):
            vars(layer)["symbolic_call"] = layer.call


def _open_copy(copy, copier, call, fresh, way, hands_on):
    """Traces a copy in one of the ways, see `_open`."""
    layer = call.operation
    training = training_of(call)
    known = fresh_inputs(call, way.stand_ins) if way.stand_ins else fresh
    lift = None
    if lifting.own_variables(layer):
        # Another one, that will have no variables of its own.
        copier, copy = _copied(layer)
        anchor = known[id(call.input_tensors[0])]
        lift = _lift(layer, copy, anchor, way.rows)
    # Of a model inside Keras does not tell that it hands on masks.
    _unite(copy, way.unites or hands_on)

    def run(mode):
        counted = contextlib.nullcontext()
        if way.positions:
            counted = symbolic_positions(
                [known[id(tensor)] for tensor in call.input_tensors]
            )
        with warnings.catch_warnings():
            # Of masks that end, as they do where the model itself was built.
            warnings.simplefilter("ignore")
            with counted:
                traced = trace_call(copy, call, known, mode)
            return replay(traced, known, fresh, way.stand_ins, lift, hands_on)

    outputs = run(False)
    runs = [keras.tree.flatten(outputs)]
    if training is None:
        runs.append(keras.tree.flatten(run(True)))
    given = [*call.input_tensors, *riding_masks(call)]
    inputs = [fresh[id(tensor)] for tensor in given]
    orders = [calls_between(inputs, flat, tensors_to_open) for flat in runs]
    check_same_graph(orders, runs, inputs)
    check_variables(copy, orders[0], lift)
    originals = copier.originals()
    check_tracked(copy, orders[0], originals)
    return Inside(inputs, runs[0], _calls(orders, originals, training)), outputs


def _calls(orders, originals, training):
    """The nodes of all modes that were traced, as calls for each mode."""
    calls = []
    for nodes in zip(*orders):
        traced = nodes[0].operation
        operation = originals.get(id(traced), traced)
        given = [node.arguments.kwargs.get("training") for node in nodes]
        value = given[0] if len(set(given)) == 1 else None
        if training is False and value is None and takes_training(operation):
            value = False
        calls.append(Call(nodes[0], operation, value, operation is traced))
        if value is False and not _same_in_training(calls[-1]):
            raise Closed(
                f"calls its '{operation.name}' with training=False, which a "
                "functional model would not hold to in training"
            )
    return calls


def _lift(layer, copy, anchor, rows):
    try:
        return lifting.Lift(layer, copy, anchor, rows)
    except Exception as error:
        raise CannotRun(
            f"has variables of its own ({message(error)})"
        ) from error


def _same_in_training(call):
    """Whether a layer that is called for test time is so in training too."""
    layer = call.operation
    if not takes_training(layer) or does_nothing(call):
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
