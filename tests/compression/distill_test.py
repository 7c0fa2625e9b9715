import functools
import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from scipy import special

from l0keras.compile_settings import CompileSettings
from l0keras.compression.distill import check_teacher
from l0keras.compression.distill import distilled

SHARE, TEMPERATURE = 0.3, 2.5
losses = keras.losses


def network(activation=None, seed=0, size=4, penalty=None, **kwargs):
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu")(inputs)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(
        size,
        activation=activation,
        kernel_regularizer=penalty,
        kernel_initializer=keras.initializers.RandomNormal(0, 1, seed),
        **kwargs,
    )(x)
    return keras.Model(inputs, x)


def examples(rng, rows=10, classes=4):
    x = rng.normal(size=(rows, 6)).astype("float32")
    return x, rng.integers(0, classes, rows)


def loss_of(model, teacher, x, y, weights=None, training=True):
    """The loss of a batch, and the outputs that it is made of."""
    outputs = model(x, training=False)
    settings = CompileSettings(model)
    with distilled(model, teacher, settings, SHARE, TEMPERATURE):
        loss = model.compute_loss(
            *(ops.convert_to_tensor(x), y, outputs, weights), training=training
        )
    return float(ops.convert_to_numpy(loss)), ops.convert_to_numpy(outputs)


def divergence(theirs, ours):
    return TEMPERATURE**2 * np.sum(special.rel_entr(theirs, ours), axis=-1)


def softmax(logits):
    return special.softmax(np.asarray(logits, "float64") / TEMPERATURE, -1)


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("taught", [None, "softmax"])
def test_the_loss_of_classifiers(activation, taught):
    rng = np.random.default_rng(0)
    model = network(activation, penalty=keras.regularizers.L2(0.1))
    teacher = network(taught, seed=1)
    crossentropy = losses.SparseCategoricalCrossentropy(
        from_logits=activation is None
    )
    model.compile("sgd", crossentropy)
    x, y = examples(rng)
    loss, outputs = loss_of(model, teacher, x, y)
    theirs = ops.convert_to_numpy(teacher(x, training=False))
    ours, theirs = (
        softmax(values if known is None else np.log(values))
        for values, known in ((outputs, activation), (theirs, taught))
    )
    task = float(crossentropy(y, outputs))
    penalty = float(ops.convert_to_numpy(sum(model.losses)))
    soft = divergence(theirs, ours).mean()
    expected = (1 - SHARE) * task + SHARE * soft + penalty
    assert loss == pytest.approx(expected, rel=1e-4)
    # Evaluations are those of the compiled loss.
    loss, _ = loss_of(model, teacher, x, y, training=False)
    assert loss == pytest.approx(task + penalty, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        losses.sparse_categorical_crossentropy,
        functools.partial(
            losses.sparse_categorical_crossentropy, from_logits=False
        ),
        # One's own, on a softmax.
        lambda y, p: losses.sparse_categorical_crossentropy(y, p),
    ],
)
def test_names_functions_and_own_losses_say_what_outputs_are(loss):
    rng = np.random.default_rng(0)
    model, teacher = network("softmax"), network("softmax", seed=1)
    model.compile("sgd", loss)
    x, y = examples(rng)
    value, outputs = loss_of(model, teacher, x, ops.convert_to_tensor(y))
    theirs = ops.convert_to_numpy(teacher(x, training=False))
    soft = divergence(softmax(np.log(theirs)), softmax(np.log(outputs)))
    task = -np.log(outputs[np.arange(len(y)), y])
    expected = np.mean((1 - SHARE) * task + SHARE * soft)
    assert value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_the_loss_of_independent_probabilities(activation):
    rng = np.random.default_rng(0)
    model, teacher = network(activation), network(activation, seed=1)
    crossentropy = losses.BinaryCrossentropy(from_logits=activation is None)
    model.compile("sgd", crossentropy)
    x, _ = examples(rng)
    y = rng.integers(0, 2, (10, 4)).astype("float32")
    value, outputs = loss_of(model, teacher, x, y)
    theirs = ops.convert_to_numpy(teacher(x, training=False))
    both = []
    for values in (theirs, outputs):
        values = np.asarray(values, "float64")
        if activation is not None:
            values = special.logit(values)
        p = special.expit(values / TEMPERATURE)
        both.append(np.stack([p, 1 - p], axis=-1))
    soft = divergence(*both).mean()
    task = float(crossentropy(y, outputs))
    expected = (1 - SHARE) * task + SHARE * soft
    assert value == pytest.approx(expected, rel=1e-4)


def test_other_outputs_differ_by_their_squares_with_weights():
    rng = np.random.default_rng(0)
    model, teacher = network(), network(seed=1)
    model.compile("sgd", "mae")
    x, _ = examples(rng)
    y = rng.normal(size=(10, 4)).astype("float32")
    weights = rng.uniform(0, 2, 10).astype("float32")
    value, outputs = loss_of(model, teacher, x, y, weights)
    theirs = ops.convert_to_numpy(teacher(x, training=False))
    rows = (1 - SHARE) * np.abs(y - outputs) + SHARE * (outputs - theirs) ** 2
    expected = np.mean(weights * rows.mean(-1))
    assert value == pytest.approx(expected, rel=1e-4)


def test_several_outputs_have_their_own_kinds_and_weights():
    rng = np.random.default_rng(0)
    models = []
    for seed in (0, 1):
        inputs = keras.Input((6,))
        init = keras.initializers.RandomNormal(0, 1, seed)
        outputs = [
            layers.Dense(3, name=name, kernel_initializer=init)(inputs)
            for name in ("label", "place")
        ]
        models.append(keras.Model(inputs, outputs))
    model, teacher = models
    model.compile(
        "sgd",
        {
            "place": "mse",
            "label": losses.SparseCategoricalCrossentropy(from_logits=True),
        },
        loss_weights={"label": 0.5, "place": 2.0},
    )
    x, y = examples(rng, classes=3)
    place = np.zeros((10, 3), "float32")
    settings = CompileSettings(model)
    outputs = model(x)
    target = [ops.convert_to_tensor(y), ops.convert_to_tensor(place)]
    task = float(model.compute_loss(x, target, outputs))
    with distilled(model, teacher, settings, SHARE, TEMPERATURE):
        value = float(model.compute_loss(x, target, outputs))
    ours, theirs = (
        [ops.convert_to_numpy(one) for one in many]
        for many in (outputs, teacher(x))
    )
    soft = 0.5 * divergence(softmax(theirs[0]), softmax(ours[0])).mean()
    soft += 2.0 * np.mean((theirs[1] - ours[1]) ** 2)
    expected = (1 - SHARE) * task + SHARE * soft
    assert value == pytest.approx(expected, rel=1e-4)


def test_training_takes_over_what_the_teacher_knows_and_leaves_no_trace():
    rng = np.random.default_rng(0)
    model, teacher = network(), network(seed=1)
    model.layers[2].rate = 0.0
    model.compile(
        keras.optimizers.Adam(0.05),
        losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    x, y = examples(rng, rows=32)
    before = [ops.convert_to_numpy(v).copy() for v in teacher.variables]
    theirs = softmax(teacher.predict(x, verbose=0))
    apart = np.abs(softmax(model.predict(x, verbose=0)) - theirs).max()
    tracked = len(model._flatten_layers())
    settings = CompileSettings(model)
    with distilled(model, teacher, settings, 1.0, TEMPERATURE):
        assert len(model._flatten_layers()) == tracked
        many = np.tile(x, (100, 1)), np.tile(y, 100)
        model.fit(*many, batch_size=32, shuffle=False, verbose=0)
    ours = softmax(model.predict(x, verbose=0))
    assert np.abs(ours - theirs).max() < 0.2 * apart
    for variable, value in zip(teacher.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    assert "compute_loss" not in vars(model)
    assert model.compute_loss.__func__ is keras.Model.compute_loss
    gone = weakref.ref(teacher)
    del teacher
    gc.collect()
    assert gone() is None
    # And it goes on by itself.
    model.fit(x, y, verbose=0)


def test_losses_of_a_teacher_stay_away():
    model, teacher = network(), network(penalty="l2", activity_regularizer="l2")
    model.compile("sgd", "mse")
    x = np.ones((4, 6), "float32")
    y = np.ones((4, 4), "float32")
    count = len(teacher.losses)
    with distilled(model, teacher, CompileSettings(model), 1.0, 1.0):
        model.fit(x, y, verbose=0)
    assert len(teacher.losses) == count


def test_an_own_loss_of_the_class_is_the_task():
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return ops.mean(y_pred)

    inputs = keras.Input((6,))
    model = Own(inputs, layers.Dense(4)(inputs))
    model.compile("sgd")
    teacher = network(seed=1)
    x, y = examples(np.random.default_rng(0))
    value, outputs = loss_of(model, teacher, x, y)
    theirs = ops.convert_to_numpy(teacher(x, training=False))
    soft = np.mean((outputs - theirs) ** 2)
    expected = (1 - SHARE) * outputs.mean() + SHARE * soft
    assert value == pytest.approx(expected, rel=1e-4)
    assert not model._compute_loss_has_training_arg


class OwnStep(keras.Model):
    def train_step(self, *args):
        return super().train_step(*args)


def test_teachers_that_do_not_fit_are_refused():
    model = network()
    check_teacher(model, network(seed=1))
    for teacher in (None, "other", keras.Sequential([])):
        with pytest.raises(ValueError, match="`teacher` must be None, 'self'"):
            check_teacher(model, teacher)
    with pytest.raises(ValueError, match=r"\[\(None, 4\)\].*\[\(None, 5\)\]"):
        check_teacher(model, network(size=5))
    other = keras.Sequential([keras.Input((7,)), layers.Dense(4)])
    with pytest.raises(ValueError, match="must take the inputs of the model"):
        check_teacher(model, other)
    own = OwnStep(model.input, model.output)
    with pytest.raises(ValueError, match="`train_step` of its own.*OwnStep"):
        check_teacher(own, network(seed=1))
