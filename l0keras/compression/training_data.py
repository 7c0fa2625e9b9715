import warnings

import keras
import numpy as np
from keras.src import backend
from keras.src.trainers.data_adapters import array_slicing
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters import is_tf_dataset
from keras.src.trainers.data_adapters.array_data_adapter import (
    can_convert_arrays,
)
from keras.src.trainers.data_adapters.generator_data_adapter import (
    GeneratorDataAdapter,
)

from l0keras.compile_settings import unwrapped

# Of a `tf.data.Dataset`, as TensorFlow counts them.
_UNKNOWN = -2
_SPARSE = keras.losses.sparse_categorical_crossentropy


class TrainingData:
    """Data as `fit` takes them, for several trainings of several models.

    Args:
        x, y, batch_size, sample_weight, class_weight, steps_per_epoch,
        validation_data, validation_split, validation_steps,
        validation_batch_size, validation_freq, shuffle: as in `fit`. The
            split is made once.

    Attributes:
        steps: the number of steps in an epoch, an integer.
        batch_size: the number of examples in a step, as far as it is known.
        name: what models are to be evaluated on, the name of an argument, or
            `None` where data can be seen only once.

    Raises:
        ValueError: data that `fit` would refuse, without a batch, or endless
            without `steps_per_epoch`.
    """

    def __init__(
        self,
        x,
        y=None,
        *,
        batch_size=None,
        sample_weight=None,
        class_weight=None,
        steps_per_epoch=None,
        validation_data=None,
        validation_split=0.0,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
        shuffle=True,
    ):
        for name, value in (
            ("batch_size", batch_size),
            ("steps_per_epoch", steps_per_epoch),
        ):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(
                    f"Argument `{name}` must be an integer of at least 1 or "
                    f"None. Received: {name}={value!r}"
                )
        if not 0 <= validation_split < 1:
            raise ValueError(
                "Argument `validation_split` must lie in [0, 1). "
                f"Received: validation_split={validation_split}"
            )
        self._split = bool(validation_split) and validation_data is None
        if self._split:
            (x, y, sample_weight), validation_data = (
                array_slicing.train_validation_split(
                    (x, y, sample_weight), validation_split=validation_split
                )
            )
        adapter = get_data_adapter(
            *(x, y, sample_weight),
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            class_weight=class_weight,
        )
        self._arrays = can_convert_arrays((x, y, sample_weight))
        self._adapter = adapter
        if isinstance(adapter, GeneratorDataAdapter):
            # It has taken batches from the generator, and gives them first.
            x = adapter
        # Its epochs need not be alike.
        self._goes_on = steps_per_epoch is not None and hasattr(x, "skip")
        x, steps_per_epoch = _counted(x, steps_per_epoch)
        validation_data, validation_steps = _counted(
            validation_data, validation_steps
        )
        self.steps = _count(x, adapter, steps_per_epoch)
        self._x, self._y = x, y
        self.batch_size = batch_size or adapter.batch_size or 32
        self._validation = validation_data
        self._validation_steps = validation_steps
        reorders = self._arrays or (
            isinstance(x, keras.utils.PyDataset) and x.num_batches is not None
        )
        self._fit = {
            "x": x,
            "y": y,
            "batch_size": batch_size,
            "sample_weight": sample_weight,
            "class_weight": class_weight,
            "steps_per_epoch": steps_per_epoch,
            "validation_data": validation_data,
            "validation_steps": validation_steps,
            "validation_batch_size": validation_batch_size,
            "validation_freq": validation_freq,
            # Keras warns of other data that it does not shuffle.
            "shuffle": shuffle if reorders else False,
        }
        self.name = self._evaluated()

    def fit_arguments(self, done=0):
        """The arguments of `fit` that are about data, a dictionary.

        Args:
            done: the number of epochs that a training has had already. What
                they took of a dataset with `steps_per_epoch` is left out.
        """
        arguments = dict(self._fit)
        if done and self._goes_on:
            arguments["x"] = arguments["x"].skip(done * self.steps)
        return arguments

    def evaluate(self, model):
        """The loss and the metrics of a compiled model.

        They are measured on the validation data, and without these on the
        training data.

        Returns:
            A dictionary from names to floats, or `None` for data that can be
            seen only once.
        """
        if self.name is None:
            return None
        given = self._fit
        if self._validation is None:
            x, y, weight = given["x"], given["y"], given["sample_weight"]
            steps, size = given["steps_per_epoch"], given["batch_size"]
            # Arrays end by themselves.
            steps = None if self._arrays else steps
        else:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(
                self._validation
            )
            steps = self._validation_steps
            size = given["validation_batch_size"] or given["batch_size"]
        results = model.evaluate(
            *(x, y),
            batch_size=size,
            sample_weight=weight,
            steps=steps,
            verbose=0,
            return_dict=True,
        )
        return {name: float(value) for name, value in results.items()}

    def batches(self, seed=0):
        """Batches of training inputs, without an end for endless data.

        Args:
            seed: an integer that gives the order of arrays.

        Yields:
            Tuples of one element, as `refresh_batch_norm` takes them.
        """
        if self._arrays:
            yield from self._batches_of_arrays(seed)
            return
        for batch in self._adapter.get_numpy_iterator():
            x = keras.utils.unpack_x_y_sample_weight(batch)[0]
            yield (x,)

    def _batches_of_arrays(self, seed):
        x = keras.tree.map_structure(np.asarray, self._x)
        rows = len(keras.tree.flatten(x)[0])
        size = min(self.batch_size, rows)
        order = np.random.default_rng(seed).permutation(rows)
        # A last one that is smaller would count as much as the others.
        for start in range(0, rows - size + 1, size):
            chosen = order[start : start + size]
            yield (keras.tree.map_structure(lambda one: one[chosen], x),)

    def check(self, model, settings):
        """Refuses data that a model cannot be trained on.

        Args:
            model: a functional `keras.Model`.
            settings: its `CompileSettings`.

        Raises:
            ValueError: inputs do not fit the model, there are no targets, or
                labels of classes are out of range.
        """
        losses = [loss for loss, _ in settings.losses(model)]
        for name, x, y in self._given():
            _check_inputs(name, model, _spec(x))
            if not can_convert_arrays((x, y)):
                continue
            if y is None and any(loss is not None for loss in losses):
                raise ValueError(
                    f"Argument `{name[1]}` must be given, for the loss of the "
                    f"model. Received: {name[1]}=None"
                )
            _check_labels(name[1], model, y, losses)

    def _given(self):
        """The names, inputs and targets of training and validation data."""
        found = [(("x", "y"), self._x, self._y)]
        if self._validation is not None and not self._split:
            x, y, _ = keras.utils.unpack_x_y_sample_weight(self._validation)
            found.append((("validation_data", "validation_data"), x, y))
        if self._split:
            # The labels of the other part.
            x, y, _ = self._validation
            found.append((("x", "y"), x, y))
        return found

    def _evaluated(self):
        given = self._x if self._validation is None else self._validation
        if isinstance(given, tuple):
            given = given[0] if given else None
        if hasattr(given, "__next__") or isinstance(
            given, GeneratorDataAdapter
        ):
            return None
        if self._split:
            return "validation_split"
        return "x" if self._validation is None else "validation_data"


def _counted(data, steps):
    """A dataset that does not know its size, and the number of its batches.

    Such as what is left after a filter. Without a number Keras warns that the
    data have ended. Other data come back as they are.
    """
    if steps or not is_tf_dataset(data):
        return data, steps
    cardinality = data.cardinality
    cardinality = cardinality() if callable(cardinality) else cardinality
    if int(cardinality) != _UNKNOWN:
        return data, steps
    return data.repeat(), sum(1 for _ in data)


def _count(x, adapter, steps):
    """The number of batches in an epoch."""
    count = adapter.num_batches if steps is None else steps
    if count is None:
        raise ValueError(
            "Argument `steps_per_epoch` must be given for data without a known "
            f"end. Received: steps_per_epoch=None and x={x!r}"
        )
    if not count:
        raise ValueError("Argument `x` must have at least one batch.")
    return int(count)


def _spec(x):
    """The shapes and dtypes of inputs, `None` where only reading tells."""
    if can_convert_arrays(x):
        return keras.tree.map_structure(_tensor, x)
    if isinstance(x, GeneratorDataAdapter):
        batch = x._first_batches[0]
    elif isinstance(x, keras.utils.PyDataset):
        batch = x[0]
    elif is_tf_dataset(x):
        batch = x.element_spec
    else:
        return None
    inputs = keras.utils.unpack_x_y_sample_weight(batch)[0]
    return keras.tree.map_structure(_tensor, inputs)


def _tensor(array):
    shape, dtype = np.shape(array), np.asarray(0).dtype
    if hasattr(array, "shape") and hasattr(array, "dtype"):
        shape, dtype = array.shape, array.dtype
    dtype = getattr(dtype, "name", dtype)
    return keras.KerasTensor(
        (None, *shape[1:]), backend.standardize_dtype(dtype)
    )


def _check_inputs(name, model, spec):
    if spec is None:
        return
    try:
        with warnings.catch_warnings():
            # Of a structure that Keras sorts out by itself.
            warnings.simplefilter("ignore")
            backend.compute_output_spec(model, spec)
    except Exception as error:
        shapes = keras.tree.map_structure(lambda one: one.shape, spec)
        wanted = keras.tree.map_structure(lambda one: one.shape, model.input)
        raise ValueError(
            f"Argument `{name[0]}` must fit the inputs of the model, of shape "
            f"{wanted}. Received: {shapes} ({str(error).splitlines()[0]})"
        ) from error


def _check_labels(name, model, y, losses):
    """Refuses classes that a model with sparse targets does not have."""
    if isinstance(y, dict):
        keys = [*model.output_names, *sorted(y)]
        flat = [y[key] for key in keys if key in y][: len(losses)]
    else:
        flat = keras.tree.flatten(y)
    if len(flat) != len(losses):
        return
    outputs = keras.tree.flatten(model.output)
    for labels, output, loss, own in zip(
        flat, outputs, losses, model.output_names
    ):
        function, given = unwrapped(loss)
        classes = output.shape[-1]
        if function is not _SPARSE or classes is None or labels is None:
            continue
        labels = np.asarray(labels)
        if given.get("ignore_class") is not None:
            labels = labels[labels != given["ignore_class"]]
        if not labels.size:
            continue
        low, high = labels.min(), labels.max()
        if not (low >= 0 and high < classes):
            raise ValueError(
                f"Argument `{name}` must have labels from 0 to {classes - 1}, "
                f"for the {classes} classes of the model's output "
                f"'{own}'. Received: labels from {low} to "
                f"{high}"
            )
