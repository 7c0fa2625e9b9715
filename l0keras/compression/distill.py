import contextlib

import keras
from keras import ops

from l0keras.compile_settings import unwrapped

# Losses of outputs that share a probability of 1 among classes, and of
# outputs that are probabilities of their own.
_CLASSES = (
    *("sparse_categorical_crossentropy", "categorical_crossentropy"),
    *("categorical_focal_crossentropy", "kl_divergence"),
)
_BITS = ("binary_crossentropy", "binary_focal_crossentropy")
_LAYERS = keras.layers


def check_teacher(model, teacher):
    """Refuses a teacher that a model cannot learn from.

    Args:
        model: a functional `keras.Model`.
        teacher: what is to be checked.

    Raises:
        ValueError: `teacher` is no built Keras model, does not take the
            inputs of `model` or has outputs of other shapes; or `model` has a
            `train_step` of its own, which need not ask for its loss.
    """
    if not isinstance(teacher, keras.Model) or not teacher.built:
        raise ValueError(
            "Argument `teacher` must be None, 'self' or a built keras.Model. "
            f"Received: teacher={teacher!r}"
        )
    if type(model).train_step is not keras.Model.train_step:
        raise ValueError(
            "Argument `teacher` must be None for a model with a `train_step` "
            f"of its own. Received: model '{model.name}' of class "
            f"{type(model).__name__}"
        )
    try:
        outputs = keras.src.backend.compute_output_spec(teacher, model.input)
    except Exception as error:
        raise ValueError(
            "Argument `teacher` must take the inputs of the model. Received: "
            f"model '{teacher.name}', which cannot: {error}"
        ) from error
    shapes = [
        [tuple(tensor.shape) for tensor in keras.tree.flatten(tensors)]
        for tensors in (model.output, outputs)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "Argument `teacher` must have outputs of the model's shapes, "
            f"{shapes[0]}. Received: model '{teacher.name}' with outputs of "
            f"shapes {shapes[1]}"
        )


@contextlib.contextmanager
def distilled(model, teacher, settings, share, temperature):
    """Lets a model learn from another one, within a `with` block.

    Of the loss of each training step, `share` is what the outputs differ from
    the teacher's, and the rest is the compiled loss. Penalties count in full,
    and evaluations give the compiled loss. For classifiers the difference is
    the divergence of KL(teacher || model) of the probabilities at a higher
    temperature T, times T^2 so that its gradients stay as large; for other
    outputs the mean squared difference.

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural
    network" (arXiv:1503.02531), section 2.

    Args:
        model: a compiled functional `keras.Model`. Nothing of the teacher
            stays on it.
        teacher: a `keras.Model`, or `None` to change nothing. It is called as
            at test time and is not changed.
        settings: the `CompileSettings` of `model`.
        share: a number in [0, 1].
        temperature: T, above 0.
    """
    if teacher is None or not share:
        yield
        return
    soft = _SoftLoss(model, teacher, settings, temperature)
    compiled = model.compute_loss
    standard = type(model).compute_loss is keras.Model.compute_loss

    def compute_loss(
        x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        arguments = {"training": training} if had_argument else {}
        loss = compiled(x, y, y_pred, sample_weight, **arguments)
        if not training:
            return loss
        task = loss
        if standard:
            for penalty in model.losses:
                task = task - model._aggregate_additional_loss(penalty)
        difference = ops.cast(soft(x, y_pred, sample_weight), loss.dtype)
        return loss + share * (difference - task)

    # Classes may have a `compute_loss` without that argument.
    had_argument = model._compute_loss_has_training_arg
    try:
        # Past `__setattr__`, which would track the teacher.
        vars(model)["compute_loss"] = compute_loss
        model._compute_loss_has_training_arg = True
        model.train_function = None
        yield
    finally:
        del vars(model)["compute_loss"]
        model._compute_loss_has_training_arg = had_argument
        # The function that was traced with the teacher in it.
        model.train_function = None


class _SoftLoss:
    """The differences between the outputs of a model and of its teacher."""

    def __init__(self, model, teacher, settings, temperature):
        self._teacher = teacher
        tensors = keras.tree.flatten(model.output)
        taught = [None] * len(tensors)
        if hasattr(teacher, "output_names"):
            taught = keras.tree.flatten(teacher.output)
        losses = settings.losses(model)
        # Outputs without a loss are not taught, unless the class has its own.
        own_loss = all(loss is None for loss, _ in losses)
        self._outputs = []
        for own, other, (loss, weight) in zip(
            tensors, taught, losses, strict=True
        ):
            kind, logits = _kind(loss, own)
            known = _activation(other)
            differences = {
                "classes": _classes,
                "bits": _bits,
                "numbers": _numbers,
            }
            self._outputs.append(
                (
                    _Difference(
                        differences[kind],
                        # Teachers may give out logits where the model gives
                        # probabilities.
                        logits if known is None else known == "linear",
                        logits,
                        temperature,
                    ),
                    weight if own_loss or loss is not None else 0.0,
                )
            )

    def __call__(self, x, y_pred, sample_weight):
        teacher = self._teacher
        arguments = {}
        if teacher._call_has_training_arg:
            arguments["training"] = False
        # Nothing that it does is kept: no seeds, losses or statistics.
        outputs, _ = teacher.stateless_call(
            [ops.convert_to_tensor(v) for v in teacher.trainable_variables],
            [ops.convert_to_tensor(v) for v in teacher.non_trainable_variables],
            x,
            **arguments,
        )
        outputs = keras.tree.flatten(outputs)
        weights = keras.tree.flatten(sample_weight)
        if len(weights) != len(outputs):
            weights = [weights[0] if len(weights) == 1 else None] * len(outputs)
        total = 0.0
        for (loss, factor), theirs, ours, weight in zip(
            self._outputs, outputs, keras.tree.flatten(y_pred), weights
        ):
            if factor:
                theirs = ops.stop_gradient(theirs)
                total = total + factor * loss(theirs, ours, weight)
        return total


class _Difference(keras.losses.Loss):
    """One of the functions below as a loss, with weights and masks.

    Args:
        function: of the teacher's and the model's outputs divided by the
            temperature.
        teacher_logits, logits: whether these are not probabilities.
        temperature: a number above 0.
    """

    def __init__(self, function, teacher_logits, logits, temperature):
        super().__init__(name="distillation", dtype="float32")
        self._function = function
        self._logits = (teacher_logits, logits)
        self._temperature = temperature

    def call(self, y_true, y_pred):
        return self._function(y_true, y_pred, self._logits, self._temperature)


def _classes(theirs, ours, logits, temperature):
    theirs, ours = (
        ops.log_softmax(
            (values if known else ops.log(ops.maximum(values, 1e-7)))
            / temperature
        )
        for values, known in zip((theirs, ours), logits)
    )
    divergence = ops.sum(ops.exp(theirs) * (theirs - ours), axis=-1)
    return temperature**2 * divergence


def _bits(theirs, ours, logits, temperature):
    theirs, ours = (
        (values if known else _logit(values)) / temperature
        for values, known in zip((theirs, ours), logits)
    )
    divergence = 0.0
    for sign in (1.0, -1.0):
        theirs_log = ops.log_sigmoid(sign * theirs)
        ours_log = ops.log_sigmoid(sign * ours)
        divergence += ops.exp(theirs_log) * (theirs_log - ours_log)
    return temperature**2 * _mean(divergence)


def _numbers(theirs, ours, logits, temperature):
    return _mean(ops.square(theirs - ours))


def _logit(values):
    values = ops.clip(values, 1e-7, 1.0 - 1e-7)
    return ops.log(values) - ops.log(1.0 - values)


def _mean(values):
    return ops.mean(values, axis=-1) if len(values.shape) > 1 else values


def _kind(loss, tensor):
    """What an output is, and whether it is logits.

    Returns:
        A pair: "classes", "bits" or "numbers", and a boolean.
    """
    function, given = unwrapped(loss)
    for kind, names in (("classes", _CLASSES), ("bits", _BITS)):
        if function in [keras.losses.get(name) for name in names]:
            return kind, bool(given.get("from_logits", False))
    known = {"softmax": "classes", "sigmoid": "bits"}
    return known.get(_activation(tensor), "numbers"), False


def _activation(tensor):
    """The name of the activation that made an output, `None` if not known."""
    history = getattr(tensor, "_keras_history", None)
    while history is not None:
        layer = history.operation
        if isinstance(layer, _LAYERS.Softmax):
            return "softmax"
        if not isinstance(layer, _LAYERS.Identity):
            break
        inner = layer._inbound_nodes[history.node_index].input_tensors[0]
        history = getattr(inner, "_keras_history", None)
    else:
        return None
    activation = getattr(layer, "activation", None)
    for name in ("softmax", "sigmoid", "linear"):
        if activation is getattr(keras.activations, name):
            return name
    return None
