"""A layer's own variables as layers of Keras, so that it can be opened.

A matrix that tensors are multiplied by is the kernel of a `Dense` layer, and a
vector added behind that its bias. Others are looked up in an `Embedding` of
one row. So the graph of an opened layer has plain layers only.
"""

import math
import weakref

import keras
from keras import ops
from keras.src.ops import numpy as numpy_ops

# Where Keras itself keeps the variables of a layer.
_TRACKED = {"_tracker", "_trainable_variables", "_non_trainable_variables"}
_SUMS = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
# The layers that stand for variables, by the layers whose they are.
_lifted = weakref.WeakKeyDictionary()
# Which of these each variable became: a `Dense`, or `None` for a table.
_roles = weakref.WeakKeyDictionary()


def own_variables(layer):
    """The variables that a layer made itself, a list."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def shared_variables(model):
    """The ids of the variables that several layers of a model made theirs."""
    seen, shared = {}, set()
    for layer in model._flatten_layers():
        for variable in own_variables(layer):
            if seen.setdefault(id(variable), layer) is not layer:
                shared.add(id(variable))
    return shared


def lifted_variables(layer):
    """The variables of the layers that stand for those of a layer.

    Returns:
        A list of pairs: such a variable, and the one of `layer` that it has
        the values of, in the same order.
    """
    own, found = own_variables(layer), []
    for key, stand_in in _lifted.get(layer, {}).items():
        indices = [key] if isinstance(key, int) else key
        for variable, index in zip(stand_in.weights, indices):
            found.append((variable, own[index]))
    return found


def refuses(layer):
    """Why the variables of a layer cannot be lifted, or `None`."""
    for variable in own_variables(layer):
        if "float" not in str(variable.dtype):
            return f"has a variable '{variable.path}' that is no float"
        if variable.dtype != layer.variable_dtype and _is_cast(layer, variable):
            return f"has a variable '{variable.path}' in a dtype of its own"
    return None


def _is_cast(layer, variable):
    """Whether a variable is read in the dtype that its layer computes in."""
    return layer.autocast and variable._autocast


class NotLifted(Exception):
    """The reason why the variables of a layer cannot be layers of Keras."""


class Lift:
    """The own variables of one layer in one trace.

    Args:
        layer: the layer of the caller's model.
        copy: a copy of it with the same variables. From now on it has
            symbolic tensors in the place of its own ones.
        anchor: an input of the trace, a `KerasTensor`.
        rows: whether vectors are matrices of one row, as they broadcast.

    Attributes:
        used: the variables that the last trace read.
    """

    def __init__(self, layer, copy, anchor, rows):
        self._layer = layer
        self._variables = own_variables(layer)
        self.used = []
        first = anchor[(slice(0, 1), *[0] * (len(anchor.shape) - 1))]
        index = ops.zeros_like(first, dtype="int32")
        # Variables by the ids of the tensors that stand for them.
        self._found = {}
        tensors = {}
        for variable in self._variables:
            row = self._table(variable)(index)
            tensor = row
            if len(variable.shape) != 1 or not rows:
                tensor = ops.reshape(row, tuple(variable.shape))
            tensors[id(variable)] = tensor
            self._found[id(tensor)] = variable
        # Ids are those of living objects only.
        self._tensors = list(tensors.values())
        for key, value in vars(copy).items():
            if key not in _TRACKED:
                vars(copy)[key] = _put(value, tensors)

    def products(self, order, outputs):
        """Which calls a `Dense` layer can stand for.

        Args:
            order: the nodes of the trace.
            outputs: its outputs, a list.

        Returns:
            A dictionary from the ids of nodes to pairs of a `Dense` layer and
            the node whose output it makes: that of a sum where it has a bias.

        Raises:
            NotLifted: what is not a kernel of a layer is too much, or has
                more to it than values.
        """
        readers = {}
        for node in order:
            for tensor in node.arguments.keras_tensors:
                readers.setdefault(id(tensor), []).append(node)
        ends = {id(tensor) for tensor in outputs}
        found, roles = {}, {}
        for key, kernel in self._found.items():
            uses = readers.get(key, [])
            if not uses or key in ends or not _multiply(uses, key):
                continue
            bias, sums = self._bias(uses, kernel, readers, ends)
            dense = self._dense(kernel, bias)
            for node, end in zip(uses, sums or uses, strict=True):
                found[id(node)] = dense, end
            roles[id(kernel)] = dense
            roles[id(bias)] = dense
        self.used = [
            variable
            for key, variable in self._found.items()
            if key in readers or key in ends
        ]
        self._check(order, self.used, roles)
        return found

    def _bias(self, uses, kernel, readers, ends):
        """The vector that all products have added to them, and the sums."""
        sums, keys = [], set()
        for node in uses:
            (output,) = node.outputs
            after = readers.get(id(output), [])
            if len(after) != 1 or id(output) in ends:
                return None, None
            if type(after[0].operation) is not numpy_ops.Add:
                return None, None
            given = after[0].arguments.keras_tensors
            keys.update(id(tensor) for tensor in given if tensor is not output)
            sums.append(after[0])
        if len(keys) != 1:
            return None, None
        (key,) = keys
        bias = self._found.get(key)
        if bias is None or key in ends or bias.trainable != kernel.trainable:
            return None, None
        if self._dtype(bias) != self._dtype(kernel):
            return None, None
        if tuple(bias.shape) != tuple(kernel.shape[1:]):
            return None, None
        if {id(n) for n in readers[key]} != {id(n) for n in sums}:
            return None, None
        return bias, sums

    def _check(self, order, used, roles):
        layers = {
            id(node.operation): node.operation.count_params()
            for node in order
            if isinstance(node.operation, keras.Layer)
            and not any(node.operation is x for x in self._layers().values())
        }
        layers.update((id(x), x.count_params()) for x in roles.values())
        rest = [v for v in used if id(v) not in roles]
        for variable in rest:
            if variable.constraint is not None or not (
                variable.regularizer is None
                or type(variable.regularizer) in _SUMS
            ):
                raise NotLifted(
                    f"its variable '{variable.path}' has a constraint or a "
                    "regularizer that goes by its shape"
                )
        # Matrices that are looked up to be multiplied cost time, and cannot be
        # cut.
        sizes = [
            math.prod(variable.shape)
            for variable in rest
            if sum(size > 1 for size in variable.shape) > 1
        ]
        if sum(sizes) > sum(layers.values()):
            raise NotLifted("most of its own weights are no kernels of layers")
        known = _roles.setdefault(self._layer, {})
        for variable in used:
            role = roles.get(id(variable))
            if known.setdefault(self._index(variable), role) is not role:
                raise NotLifted(
                    f"its variable '{variable.path}' is used in different ways"
                )

    # === Layers that stand for variables ===

    def _layers(self):
        return _lifted.setdefault(self._layer, {})

    def _index(self, variable):
        return next(
            i for i, own in enumerate(self._variables) if own is variable
        )

    def _table(self, variable):
        size = math.prod(variable.shape)
        layer = self._layers().get(self._index(variable))
        if layer is None:
            layer = keras.layers.Embedding(
                1,
                size,
                embeddings_regularizer=variable.regularizer,
                name=self._name(variable),
                dtype=self._dtype(variable),
            )
            layer.build()
            self._layers()[self._index(variable)] = layer
        layer.embeddings.assign(ops.reshape(variable, (1, size)))
        layer.trainable = bool(variable.trainable)
        return layer

    def _dense(self, kernel, bias):
        key = self._index(kernel), None if bias is None else self._index(bias)
        layer = self._layers().get(key)
        if layer is None:
            layer = keras.layers.Dense(
                kernel.shape[1],
                use_bias=bias is not None,
                kernel_regularizer=kernel.regularizer,
                kernel_constraint=kernel.constraint,
                bias_regularizer=getattr(bias, "regularizer", None),
                bias_constraint=getattr(bias, "constraint", None),
                name=self._name(kernel),
                dtype=self._dtype(kernel),
            )
            layer.build((None, kernel.shape[0]))
            self._layers()[key] = layer
        layer.kernel.assign(kernel)
        if bias is not None:
            layer.bias.assign(bias)
        layer.trainable = bool(kernel.trainable)
        return layer

    def _dtype(self, variable):
        if _is_cast(self._layer, variable):
            return self._layer.dtype_policy
        return variable.dtype

    def _name(self, variable):
        return f"{self._layer.name}_{variable.name}"


def _multiply(uses, key):
    """Whether all uses of a matrix multiply tensors by it from the right."""
    for node in uses:
        if type(node.operation) not in (numpy_ops.Matmul, numpy_ops.Dot):
            return False
        args = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        if len(args) != 2 or id(args[1]) != key or id(args[0]) == key:
            return False
        if not all(isinstance(x, keras.KerasTensor) for x in args):
            return False
        if len(args[1].shape) != 2 or len(args[0].shape) < 2:
            return False
    return True


def _put(value, tensors):
    """A value, or a container of such, with tensors for variables."""
    if isinstance(value, keras.Variable):
        return tensors.get(id(value), value)
    if isinstance(value, dict):
        new = {key: _put(v, tensors) for key, v in value.items()}
        return new if any(new[k] is not v for k, v in value.items()) else value
    if isinstance(value, (list, tuple)):
        new = [_put(v, tensors) for v in value]
        if any(a is not b for a, b in zip(new, value)):
            return tuple(new) if isinstance(value, tuple) else new
    return value
