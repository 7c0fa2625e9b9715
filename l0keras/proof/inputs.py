"""Random inputs that a model accepts, found from its graph."""

import keras
import numpy as np

# For sizes that a model leaves open, in the order in which they are tried:
# U-Nets halve their inputs several times, and valid convolutions need many.
SIZES = (32, 64, 128, 16, 256, 8, 4, 2, 1)
# Attributes of layers and ops that say how many indices they know.
_LIMITS = ("input_dim", "num_tokens", "num_classes", "vocabulary_size")
# Layers and ops that hand on the indices among their inputs, as floats too.
_PASSING = {
    *("Cast", "Concatenate", "ExpandDims", "Flatten", "GetItem", "Identity"),
    *("Permute", "RepeatVector", "Reshape", "Slice", "Split", "Squeeze"),
    *("Stack", "Take", "Transpose", "Unstack"),
}


def random_array(shape, dtype, rng, high=None, positive=False):
    """An array of random entries of a dtype.

    Args:
        shape: a tuple of integers.
        dtype: a string.
        rng: a `numpy.random.Generator`.
        high: an integer: entries are whole numbers from 0 to below it. By
            default floats are normally distributed and integers 0 or 1.
        positive: whether floats are uniform between 0 and 1 instead.

    Returns:
        A numpy array.
    """
    if dtype == "string":
        words = rng.choice(["a", "b", "one", "two words"], shape)
        return words.astype(object)
    if high is None and "float" in dtype:
        array = rng.random(shape) if positive else rng.normal(size=shape)
    else:
        array = rng.integers(0, high or 2, shape)
    if dtype == "bfloat16":
        # NumPy has none by itself; the model casts its inputs.
        dtype = "float32"
    return array.astype(dtype)


class Inputs:
    """Draws random inputs for the signature of a model.

    Integers stay within the tables that they are looked up in, and what may
    be masked is masked in part.

    Args:
        graph: the `Graph` of the model.

    Attributes:
        sizes: those to try where the model leaves sizes open.
        masked: the numbers that stand for masked entries.
    """

    def __init__(self, graph):
        self._inputs = graph.inputs
        self._lookups = {
            id(value): list(_lookups(value))
            for value in keras.tree.flatten(graph.inputs)
        }
        self.masked = [
            number
            for layers in self._lookups.values()
            for layer in layers
            for number in _masked_value(layer)
        ]
        shapes = [v.shape for v in keras.tree.flatten(graph.inputs)]
        self.sizes = (None,)
        if any(None in shape[1:] for shape in shapes):
            self.sizes = SIZES
        self._batch = next((s[0] for s in shapes if s and s[0]), None)

    def draw(self, size=None, examples=None, safe=False, positive=False):
        """Random inputs, as nested as those of the model.

        Args:
            size: an integer for sizes that the model leaves open.
            examples: an integer, which a batch size of the model overrules;
                `None` for few where an example is large.
            safe: whether integers are 0 or 1 only.
            positive: whether floats are.

        Returns:
            Numpy arrays, the same ones in each call.
        """
        rng = np.random.default_rng(0)
        examples = self._batch or examples or self._few(size)
        return keras.tree.map_structure(
            lambda value: self._array(
                value, size, examples, rng, safe, positive
            ),
            self._inputs,
        )

    def _few(self, size):
        shapes = [v.shape[1:] for v in keras.tree.flatten(self._inputs)]
        entries = [np.prod([n or size for n in shape]) for shape in shapes]
        return 1 if max(entries) > 30_000 else 3

    def _array(self, value, size, examples, rng, safe, positive):
        shape = (examples, *(n or size for n in value.shape[1:]))
        if not value.shape:
            shape = ()
        dtype = value.tensor.dtype
        layers = self._lookups[id(value)]
        if dtype == "string":
            return self._words(layers, shape, rng)
        limits = [] if safe else [*filter(None, map(_limit, layers))]
        high = min(limits, default=None)
        if high is None and dtype == "uint8" and not safe:
            high = 256
        array = random_array(shape, dtype, rng, high, positive)
        for layer in layers:
            if len(shape) < 2 or not _masked_value(layer):
                continue
            # The last steps of each example but the first, more and more.
            for index in range(examples):
                steps = shape[1] * (index + (examples == 1)) // (examples + 1)
                if steps:
                    array[index, -steps:] = _masked_value(layer)[0]
        return array

    def _words(self, layers, shape, rng):
        array = random_array(shape, "string", rng)
        for layer in layers:
            try:
                words = [str(w) for w in layer.get_vocabulary() if str(w)]
            except (AttributeError, TypeError, ValueError):
                continue
            if words:
                known = rng.choice(words, shape).astype(object)
                array = np.where(rng.random(shape) < 0.8, known, array)
        return array


def _lookups(value):
    """The layers and ops that read a value, or what is only moved of it."""
    for node, _ in value.readers:
        yield node.layer
        for output in node.outputs:
            indices = not any(
                name in output.tensor.dtype for name in ("float", "complex")
            )
            if indices or type(node.layer).__name__ in _PASSING:
                yield from _lookups(output)


def _inner(layer):
    return layer._flatten_layers() if isinstance(layer, keras.Layer) else ()


def _limit(layer):
    """How many indices a layer or op, or one inside of it, can look up."""
    found = []
    for one in (layer, *_inner(layer)):
        for name in _LIMITS:
            limit = getattr(one, name, None)
            if isinstance(limit, (int, np.integer)) and limit > 0:
                found.append(int(limit))
        if hasattr(one, "get_vocabulary") and hasattr(one, "num_oov_indices"):
            found.append(one.vocabulary_size())
    return min(found, default=None)


def _masked_value(layer):
    """The entry that a layer masks, in a list, or an empty one for none."""
    for one in (layer, *_inner(layer)):
        if isinstance(one, keras.layers.Masking):
            return [one.mask_value]
        if getattr(one, "mask_zero", False):
            return [0]
    return []
