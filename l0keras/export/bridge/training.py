"""Training a tf_keras model with the arguments of Keras 3."""

import keras
import numpy as np

from l0keras.export.bridge.tfmot import import_tf_keras
from l0keras.export.bridge.to_tf_keras import convert
from l0keras.export.bridge.translate import Refused
from l0keras.export.bridge.translate import same_kind

LEARNING_RATE = 1e-4
BATCH_SIZE = 32


class Training:
    """The arguments of a training, checked and translated to tf_keras.

    Args:
        model: the Keras 3 model, which may be compiled.
        data: a `tf.data.Dataset` of batches, or a tuple of arrays.
        epochs: an integer, at least 1.
        optimizer, loss: as in `compile`, of Keras 3, or `None` for those of
            the compiled model.
        validation_data: like `data`, or `None`.
        verbose: as in `fit`.

    Raises:
        ValueError: an argument is not as above, or tf_keras has no such
            optimizer or loss.
    """

    def __init__(
        self, model, data, epochs, optimizer, loss, validation_data, verbose
    ):
        whole = isinstance(epochs, int) and not isinstance(epochs, bool)
        if not whole or epochs < 1:
            _refuse("epochs", "an integer of at least 1", epochs)
        _check_data("data", data)
        if validation_data is not None:
            _check_data("validation_data", validation_data)
        self.data = data
        self.epochs = epochs
        self.validation_data = validation_data
        self.verbose = verbose
        self.loss_weights = None
        if loss is None:
            if not model.compiled or model.loss is None:
                raise ValueError(
                    "Argument `loss` must be given for a model that is not "
                    "compiled with a loss. Received: loss=None, model "
                    f"'{model.name}'"
                )
            loss = model.loss
            self.loss_weights = model._compile_loss._user_loss_weights
        if optimizer is None:
            optimizer = getattr(model, "optimizer", None)
        try:
            self.loss = keras.tree.map_structure(_loss, loss)
        except Refused as refusal:
            _refuse("loss", f"known to tf_keras; {refusal}", loss)
        try:
            self._optimizer = _optimizer(optimizer)
        except Refused as refusal:
            _refuse("optimizer", f"known to tf_keras; {refusal}", optimizer)

    @property
    def steps(self):
        """The number of batches of an epoch."""
        if isinstance(self.data, tuple):
            examples = len(keras.tree.flatten(self.data)[0])
            return -(-examples // BATCH_SIZE)
        steps = int(self.data.cardinality())
        if steps == -2:
            steps = sum(1 for _ in self.data)
        if steps < 1:
            _refuse("data", "a finite data set with batches", self.data)
        return steps

    def inputs(self, examples):
        """Those of the first batches, with about so many examples."""
        if isinstance(self.data, tuple):
            return keras.tree.map_structure(
                lambda array: np.asarray(array)[:examples], self.data[0]
            )
        found, count = [], 0
        for batch in self.data:
            found.append(keras.tree.map_structure(np.asarray, batch[0]))
            count += len(keras.tree.flatten(found[-1])[0])
            if count >= examples:
                break
        return keras.tree.map_structure(
            lambda *arrays: np.concatenate(arrays), *found
        )

    def fit(self, model, callbacks=()):
        """Compiles and trains a tf_keras model."""
        model.compile(
            optimizer=self._optimizer,
            loss=self.loss,
            loss_weights=self.loss_weights,
        )
        data = {"x": self.data}
        if isinstance(self.data, tuple):
            names = ("x", "y", "sample_weight")
            data = {"batch_size": BATCH_SIZE, **dict(zip(names, self.data))}
        model.fit(
            **data,
            epochs=self.epochs,
            validation_data=self.validation_data,
            callbacks=list(callbacks),
            verbose=self.verbose,
        )


def to_train(model, separate=None):
    """Converts a model for tfmot, see `convert`, and refuses masks."""
    converted = convert(model, separate)
    for layer in converted.layers:
        for node in layer._inbound_nodes:
            for tensor in keras.tree.flatten(node.outputs):
                if getattr(tensor, "_keras_mask", None) is not None:
                    raise ValueError(
                        "Argument `model` must have no masks, which tfmot "
                        f"loses. Received: model '{model.name}' whose layer "
                        f"'{layer.name}' makes one"
                    )
    return converted


def _check_data(name, data):
    import tensorflow as tf

    wanted = "a tf.data.Dataset of (x, y) or a tuple (x, y) of arrays"
    if isinstance(data, tf.data.Dataset):
        if not isinstance(data.element_spec, tuple):
            _refuse(name, wanted, data)
        return
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        _refuse(name, wanted, type(data).__name__)
    lengths = {np.shape(array)[:1] for array in keras.tree.flatten(data)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        _refuse(name, f"{wanted} of the same length", sorted(lengths))


def _refuse(name, wanted, received):
    raise ValueError(
        f"Argument `{name}` must be {wanted}. Received: {name}={received!r}"
    )


def _loss(loss):
    if loss is None:
        return None
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        reduction = loss.reduction or "none"
        if reduction not in ("sum", "sum_over_batch_size", "none"):
            raise Refused(f"its reduction is {reduction!r}")
        return same_kind(loss, "losses", reduction=reduction)
    name = getattr(loss, "__name__", "")
    if getattr(keras.losses, name, None) is loss:
        theirs = getattr(import_tf_keras().losses, name, None)
        if theirs is None:
            raise Refused(f"its loss '{name}' is not in tf_keras")
        return theirs
    if callable(loss) and keras.backend.backend() == "tensorflow":
        # A function of tensors works in both.
        return loss
    raise Refused(f"{loss!r} is not a loss")


def _optimizer(optimizer):
    tf_keras = import_tf_keras()
    if optimizer is None:
        return tf_keras.optimizers.Adam(LEARNING_RATE)
    if isinstance(optimizer, str):
        optimizer = keras.optimizers.get(optimizer)
    changes = {}
    rate = getattr(optimizer, "_learning_rate", None)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        changes["learning_rate"] = same_kind(rate, "optimizers.schedules")
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise Refused(f"{optimizer!r} is not an optimizer of Keras 3")
    return same_kind(optimizer, "optimizers", **changes)
