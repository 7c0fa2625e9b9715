"""True copies of layers: as objects, not through their configurations.

A configuration says what a constructor needs, and many layers' say less: own
functions come back as those of Keras with the same name, or not at all, and
what was set after construction is lost. A copy of the object has all of it.
"""

import collections
import copy
import functools
import inspect
import types
import typing
import warnings
import weakref

import keras
import numpy as np
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.utils.tracking import Tracker

# Never copied: they have no state, or belong to the process.
_SHARED = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice),
    *(type, np.dtype, np.generic, keras.DTypePolicy, keras.KerasTensor),
    *(inspect.Signature, types.ModuleType, types.BuiltinFunctionType),
)
# Where a layer stands in the graph of its old model, and what that left.
_FRESH = {
    "_inbound_nodes": list,
    "_outbound_nodes": list,
    "_losses": list,
    "_loss_ids": set,
}
_VARIABLE = keras.Variable
# How the names of arguments end that a configuration has as objects.
_OBJECTS = ("constraint", "initializer", "regularizer")


class Copier:
    """Copies layers with all that is theirs: variables, sublayers, state.

    The copy is of the same class and has equal attributes. Variables, seed
    generators, sublayers, Python containers and objects are copied along with
    it, each once, so what is shared inside of the original is shared inside
    of the copy. Functions are the same ones, but where they hold a layer or a
    variable in their closure they get the copy of it. Arrays and tensors that
    cannot change, modules and classes are shared, and so is what Python
    cannot copy, such as a table of TensorFlow.

    One copier copies each layer once, however often it is asked.

    Args:
        copy_model: a function of a layer and this copier that copies layers
            which are models with a graph, and gives `None` for others.
        share_variables: whether copies have the variables of the originals.
    """

    def __init__(self, copy_model=None, share_variables=False):
        self._copy_model = copy_model
        self._share_variables = share_variables
        self._copies = {}
        # Ids are those of living objects only.
        self._originals = []

    def layer(self, layer, name=None):
        """A copy of a layer, or of an op of Keras.

        Args:
            layer: a `keras.Layer` or another operation. It is not changed.
            name: the name of the copy, that of `layer` if `None`.

        Returns:
            An object of the same class, with no place in any graph.
        """
        known = id(layer) in self._copies
        new = self(layer)
        if not known and name is not None and name != layer.name:
            _rename(new, name)
        return new

    def changed(self, layer, name, changes):
        """A layer of the same class with other arguments of its constructor.

        Functions, initializers, regularizers, constraints and the dtype
        policy are those of `layer` itself, not what their names say, and what
        was set on it beyond its constructor is set on the new one.

        Args:
            layer: a `keras.Layer`. It is not changed.
            name: the name of the new layer.
            changes: a dictionary of arguments. A pair of a layer and such a
                dictionary is for a layer inside of a wrapper.

        Returns:
            A layer that is not built.
        """
        inside = [v for v in changes.values() if isinstance(v, Changed)]
        if not inside:
            try:
                return self._constructed(layer, name, changes)
            except NotImplementedError:
                # It has no configuration.
                return self._emptied(layer, name, changes)
        # A wrapper is copied around other layers: some constructors make
        # the layers inside of their configurations.
        for one in inside:
            self.replace(
                one.layer, self.changed(one.layer, one.layer.name, one.changes)
            )
        new = self.layer(layer, name)
        new.built = False
        new._tracker.unlock()
        return new

    def _constructed(self, layer, name, changes):
        arguments = {**live_arguments(layer, self), "name": name, **changes}
        if type(layer.dtype_policy) is keras.DTypePolicy:
            # Layers without a configuration of their own note what they were
            # given, and can only be saved if it is a name.
            arguments["dtype"] = layer.dtype_policy.name
        new = type(layer)(**arguments)
        self._note(layer, new)
        for key, value in vars(layer).items():
            # Variables and sublayers are for `build` to make, and what
            # TensorFlow notes of them is, too.
            if key in vars(new) or key.startswith("_self_"):
                continue
            if not _has_state(value):
                setattr(new, key, self(value))
        return new

    def _emptied(self, layer, name, changes):
        """A copy without variables, which `build` makes anew."""
        unknown = [key for key in changes if not hasattr(layer, key)]
        if unknown:
            raise ValueError(
                f"Layer '{layer.name}' ({type(layer).__name__}) must have a "
                f"`get_config`, or an attribute `{unknown[0]}` that its "
                "`build` and `call` go by"
            )
        new = self.layer(layer, name)
        vars(new).update(changes)
        new._tracker.unlock()
        for variable in new._trainable_variables + new._non_trainable_variables:
            new._untrack_variable(variable)
        new.built = False
        return new

    def replace(self, layer, new):
        """Lets copies have another layer where the original has `layer`."""
        self._note(layer, new)

    def originals(self):
        """What was copied, by the ids of the copies, a dictionary."""
        return {id(self._copies[id(thing)]): thing for thing in self._originals}

    def knows(self, thing):
        """Whether a thing has been copied, or replaced."""
        return id(thing) in self._copies

    def __call__(self, thing):
        """A copy of anything, see the class."""
        if isinstance(thing, _SHARED):
            return thing
        if id(thing) in self._copies:
            return self._copies[id(thing)]
        return self._note(thing, self._copy(thing))

    def _note(self, thing, new):
        self._copies[id(thing)] = new
        self._originals.append(thing)
        return new

    def _copy(self, thing):
        if isinstance(thing, _VARIABLE):
            if self._share_variables:
                return thing
            return _copy_variable(thing, self)
        if isinstance(thing, KerasSaveable):
            model = self._copy_model and self._copy_model(thing, self)
            if model is not None:
                return model
            # Pickling one would go by its configuration.
            new = self._note(thing, type(thing).__new__(type(thing)))
            self._state(thing, new)
            return new
        if isinstance(thing, np.ndarray):
            return thing.copy()
        if isinstance(thing, types.MethodType):
            return types.MethodType(thing.__func__, self(thing.__self__))
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if isinstance(thing, functools.partial):
            arguments = map(self, thing.args)
            keywords = {k: self(v) for k, v in thing.keywords.items()}
            return type(thing)(self(thing.func), *arguments, **keywords)
        if isinstance(thing, weakref.ref):
            target = thing()
            known = target is not None and self.knows(target)
            return weakref.ref(self(target)) if known else thing
        if isinstance(thing, (list, dict, set, collections.deque)):
            return self._container(thing)
        if isinstance(thing, (tuple, frozenset)):
            values = [self(value) for value in thing]
            if hasattr(thing, "_fields"):
                return type(thing)(*values)
            return type(thing)(values)
        return self._object(thing)

    def _state(self, thing, new):
        """Gives a new object the attributes of another, copied."""
        fresh = set(vars(new))
        for key, value in vars(thing).items():
            if key in _FRESH:
                vars(new)[key] = _FRESH[key]()
            elif key in fresh and inspect.isfunction(value):
                # Wrappers of methods, which each object has of its own.
                continue
            else:
                vars(new)[key] = self(value)

    def _container(self, thing):
        # TensorFlow wraps dictionaries that an object has.
        thing = getattr(thing, "__wrapped__", thing)
        if hasattr(thing, "tracker"):
            # Filling one of Keras's may be refused: its layer is built.
            new = self._note(thing, type(thing).__new__(type(thing)))
        else:
            new = self._note(thing, copy.copy(thing))
        if isinstance(thing, dict):
            pairs = [(self(k), self(v)) for k, v in dict.items(thing)]
            dict.clear(new)
            for key, value in pairs:
                dict.__setitem__(new, key, value)
        elif isinstance(thing, set):
            set.clear(new)
            set.update(new, [self(value) for value in thing])
        else:
            base = list if isinstance(thing, list) else collections.deque
            base.clear(new)
            base.extend(new, [self(value) for value in thing])
        if hasattr(thing, "__dict__"):
            vars(new).clear()
            vars(new).update({k: self(v) for k, v in vars(thing).items()})
        return new

    def _function(self, function):
        cells = function.__closure__ or ()
        if not any(_holds_state(cell) for cell in cells):
            return function
        new = types.FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple(types.CellType() for _ in cells),
        )
        new.__kwdefaults__ = function.__kwdefaults__
        vars(new).update(vars(function))
        self._note(function, new)
        for cell, other in zip(cells, new.__closure__, strict=True):
            try:
                content = cell.cell_contents
            except ValueError:
                # Nothing has been assigned to it yet.
                continue
            copied = self(content) if _holds_state(cell) else content
            other.cell_contents = copied
        return new

    def _object(self, thing):
        kind = type(thing)
        if kind.__module__.partition(".")[0] in ("tensorflow", "jax", "jaxlib"):
            return _backend_object(thing)
        try:
            reduced = thing.__reduce_ex__(4)
        except Exception:
            # Such as locks and open files.
            return thing
        if isinstance(reduced, str) or len(reduced) < 2:
            return thing
        make, arguments, state, *iterators = (*reduced, None, None, None)[:5]
        if any(iterator is not None for iterator in iterators):
            return thing
        try:
            new = make(*arguments)
        except Exception:
            return thing
        self._note(thing, new)
        slots = {}
        if isinstance(state, tuple) and len(state) == 2:
            state, slots = state[0] or {}, state[1] or {}
        if hasattr(thing, "__dict__"):
            self._state(thing, new)
        elif isinstance(state, dict):
            slots = {**state, **slots}
        for key, value in slots.items():
            object.__setattr__(new, key, self(value))
        if isinstance(thing, Tracker):
            new.stored_ids = {
                name: {id(entry) for entry in store}
                for name, (_, store) in new.config.items()
            }
        return new


class Changed(typing.NamedTuple):
    """A layer inside of a wrapper, and what shall be different of it."""

    layer: keras.Layer
    changes: dict


def live_arguments(layer, copier=None, read=None):
    """The arguments that make a layer like another, with its own objects.

    The configuration of a layer names its functions, and of one's own it may
    name the wrong one or none that can be found.

    Args:
        layer: a `keras.Layer`.
        copier: makes copies of the objects, `None` to share them.
        read: a function that gives the configuration of a layer, `None` for
            its `get_config`.

    Returns:
        A dictionary for the constructor of the layer's class.
    """
    config = _config(layer, read or type(layer).get_config)
    arguments = {**config, "dtype": layer.dtype_policy}
    for key, value in arguments.items():
        if key in ("name", "dtype", "trainable"):
            continue
        serialized = isinstance(value, dict) and "class_name" in value
        if not serialized and not key.endswith(("activation", *_OBJECTS)):
            continue
        for attribute in (key, f"_{key}"):
            if hasattr(layer, attribute):
                found = getattr(layer, attribute)
                arguments[key] = copier(found) if copier else found
                break
    return arguments


def _config(layer, read):
    """The configuration of a layer, where that has one without its objects."""
    with warnings.catch_warnings():
        # Of functions that it cannot name.
        warnings.simplefilter("ignore")
        try:
            return read(layer)
        except NotImplementedError:
            return read(_without_objects(layer))


def _without_objects(layer):
    """A stand-in for a layer, only to ask for its configuration.

    Regularizers and the like of one's own need not have one.
    """
    new = object.__new__(type(layer))
    for key, value in vars(layer).items():
        if key.endswith(_OBJECTS):
            value = None
        elif isinstance(value, keras.Layer) and key == "cell":
            value = _without_objects(value)
        vars(new)[key] = value
    return new


def _holds_state(cell, seen=()):
    """Whether a cell of a closure holds a layer or a variable."""
    try:
        return _has_state(cell.cell_contents, seen)
    except ValueError:
        # Nothing has been assigned to it yet.
        return False


def _has_state(thing, seen=()):
    """Whether a thing is, or directly holds, a layer or a variable.

    Args:
        thing: anything.
        seen: functions that are being looked at: one may hold itself.
    """
    inside = [thing]
    if isinstance(thing, (list, tuple, set)):
        inside = list(thing)
    elif isinstance(thing, dict):
        inside = list(thing.values())
    elif isinstance(thing, types.MethodType):
        inside = [thing.__self__]
    elif isinstance(thing, types.FunctionType):
        if any(thing is function for function in seen):
            return False
        cells = thing.__closure__ or ()
        return any(_holds_state(cell, (*seen, thing)) for cell in cells)
    return any(
        isinstance(entry, (_VARIABLE, KerasSaveable)) for entry in inside
    )


def _backend_object(thing):
    """A copy of what TensorFlow or JAX can copy; the rest does not change."""
    if hasattr(thing, "__deepcopy__"):
        try:
            return copy.deepcopy(thing)
        except Exception:
            return thing
    return thing


def _copy_variable(variable, copier):
    new = type(variable)(
        initializer=keras.ops.convert_to_numpy(variable),
        dtype=variable._dtype,
        trainable=variable._trainable,
        autocast=variable._autocast,
        aggregation=variable._aggregation,
        synchronization=variable._synchronization,
        layout=variable._layout,
        name=variable.name,
    )
    for key, value in vars(variable).items():
        if key not in ("_value", "_initializer") and key in vars(new):
            vars(new)[key] = copier(value)
        elif key not in vars(new):
            vars(new)[key] = copier(value)
    return new


def _rename(layer, name):
    """Gives a layer a name, and its paths and its variables' the same."""
    old = layer.name
    layer.name = name
    if not isinstance(layer, keras.Layer):
        return
    for inner in layer._flatten_layers():
        if inner._path:
            inner._path = _moved(inner._path, old, name)
    for variable in layer.variables:
        variable._path = _moved(variable.path, old, name)


def _moved(path, old, new):
    parts = path.split("/")
    if old in parts:
        parts[parts.index(old)] = new
    return "/".join(parts)
