import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras.optimizers import HoldZeros
from tests.optimizers.sparse_training import BACKEND
from tests.optimizers.sparse_training import array
from tests.optimizers.sparse_training import assert_same
from tests.optimizers.sparse_training import data
from tests.optimizers.sparse_training import gradients
from tests.optimizers.sparse_training import kernel
from tests.optimizers.sparse_training import network
from tests.optimizers.sparse_training import train
from tests.optimizers.sparse_training import two_replicas

optimizers = keras.optimizers

INNER = {
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.05, amsgrad=True),
    "decay": lambda: optimizers.AdamW(0.05, weight_decay=0.3),
    "accumulated": lambda: optimizers.Adam(0.05, gradient_accumulation_steps=2),
    # It mixes the gradients of a whole matrix.
    "muon": lambda: optimizers.Muon(0.05, exclude_embeddings=False),
    "lion": lambda: optimizers.Lion(0.01),
    "adafactor": lambda: optimizers.Adafactor(0.05),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
}
if BACKEND == "jax":
    # There each step compiles anew.
    INNER = {name: INNER[name] for name in ("momentum", "muon")}


def prune(model, share=0.6, seed=0):
    """Makes zeros in the kernels, as pruning elsewhere would."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        if "kernel" in variable.name:
            zeros = rng.random(variable.shape) < share
            variable.assign(np.where(zeros, 0, array(variable)))
    return {
        v.path: array(v) == 0
        for v in model.trainable_variables
        if "kernel" in v.name
    }


def assert_held(model, zeros):
    """Exactly the zeros of the start, in weights and averages."""
    for variable in model.trainable_variables:
        if variable.path in zeros:
            np.testing.assert_array_equal(
                array(variable) == 0, zeros[variable.path], variable.path
            )


@pytest.mark.parametrize("inner", INNER)
def test_held_weights_and_their_moments_stay_zero(inner):
    values = np.random.default_rng(1).normal(size=(20, 30))
    values *= np.random.default_rng(2).random((20, 30)) < 0.4
    variable, bias = kernel(None, values=values), kernel((30,), name="bias")
    optimizer = HoldZeros(INNER[inner](), use_ema=True, ema_momentum=0.9)
    optimizer.build([variable, bias])
    before = {id(v): array(v) for v in optimizer.variables}
    start = array(bias)
    for step in range(6):
        optimizer.apply(gradients([variable, bias], step), [variable, bias])
    held = values == 0
    np.testing.assert_array_equal(array(variable) == 0, held)
    assert np.mean(array(bias) != start) > 0.5
    moved = 0
    for own in optimizer.variables:
        # Adafactor's are of rows and columns, and their products.
        if own.shape != variable.shape or "mask" in own.name:
            continue
        if inner == "adafactor" and "velocity" in own.name:
            continue
        np.testing.assert_array_equal(
            array(own)[held], before[id(own)][held], own.path
        )
        moved += np.any(array(own) != before[id(own)])
    # The averages, and whatever moments there are.
    assert moved >= 1 + (inner != "adafactor")


class Masked(keras.layers.Layer):
    """A layer with weights that count only where its mask is 1."""

    def __init__(self, kernel, bias, activation):
        super().__init__()
        self.mask = (kernel != 0).astype("float32")
        self.kernel = self.add_weight(shape=kernel.shape, name="kernel")
        self.bias = self.add_weight(shape=bias.shape, name="bias")
        self.kernel.assign(kernel)
        self.bias.assign(bias)
        self.activation = keras.activations.get(activation)

    def call(self, x):
        return self.activation(x @ (self.kernel * self.mask) + self.bias)


@pytest.mark.parametrize(
    "inner",
    [
        lambda: optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.5),
        lambda: optimizers.AdamW(0.02, weight_decay=0.3, clipnorm=0.2),
    ],
)
def test_the_same_as_a_model_that_multiplies_by_masks(inner):
    x, y = data(steps=6)
    model = network()
    prune(model)
    first, second = (
        [array(w) for w in model.get_layer(name).weights]
        for name in ("first", "second")
    )
    other = keras.Sequential(
        [keras.Input((20,)), Masked(*first, "relu"), Masked(*second, None)]
    )
    model.compile(HoldZeros(inner()), "mse")
    other.compile(inner(), "mse")
    for one in (model, other):
        train(one, x, y)
    for own, theirs in zip(model.weights, other.weights):
        np.testing.assert_allclose(
            array(own)[array(own) != 0],
            array(theirs)[array(own) != 0],
            rtol=1e-5,
            atol=1e-6,
        )
    np.testing.assert_allclose(
        model.predict(x, verbose=0), other.predict(x, verbose=0), atol=1e-5
    )


@pytest.mark.parametrize("wrap", [False, True])
def test_several_steps_in_one_execution(wrap):
    x, y = data(steps=8)
    model = network()
    zeros = prune(model)
    inner = optimizers.Muon(0.05, exclude_embeddings=False)
    optimizer = HoldZeros(inner, use_ema=True)
    if wrap:
        optimizer = optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "mse", steps_per_execution=4)
    before = array(model.weights[0])
    train(model, x, y, callbacks=[keras.callbacks.SwapEMAWeights()])
    # The averages have the model's place now.
    assert_held(model, zeros)
    assert np.any(array(model.weights[0]) != before)


def test_saved_and_loaded_training_holds_the_same(tmp_path):
    x, y = data(steps=8)
    model = network()
    zeros = prune(model)
    model.compile(HoldZeros(optimizers.Adam(0.05)), "mse")
    train(model, x[:32], y[:32])
    # A weight that moves through 0 by chance is not held after loading.
    (place, *_) = np.argwhere(~zeros[model.weights[0].path])
    weights = array(model.weights[0])
    weights[tuple(place)] = 0
    model.weights[0].assign(weights)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        train(one, x[32:], y[32:])
    assert_same(loaded, model)
    assert_held(model, zeros)
    # Nothing but the optimizer is of this library.
    plain = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert {type(one).__module__.split(".")[0] for one in plain.layers} == {
        "keras"
    }
    shares = model.optimizer.held_shares()
    assert shares == {p: pytest.approx(z.mean()) for p, z in zeros.items()}


def test_rules_choose_variables_by_their_paths():
    model = network()
    zeros = prune(model)
    for bias in (model.weights[1], model.weights[3]):
        bias.assign(np.arange(bias.shape[0]) % 2)
    rules = {"second/bias": True, "second": False}
    optimizer = HoldZeros(optimizers.SGD(0.1), rules)
    optimizer.build(model.trainable_variables)
    first, _, _, bias = (v.path for v in model.trainable_variables)
    assert optimizer.held_shares() == {
        first: pytest.approx(zeros[first].mean()),
        bias: 0.5,
    }
    np.testing.assert_array_equal(optimizer.masks()[first], ~zeros[first])


def test_masks_that_are_given(tmp_path):
    x, y = data(steps=4)
    model = network()
    mask = np.random.default_rng(3).random((20, 16)) < 0.3
    weights = array(model.weights[0])
    weights[np.unravel_index(np.flatnonzero(mask)[0], mask.shape)] = 0
    model.weights[0].assign(weights)
    optimizer = HoldZeros(optimizers.Adam(0.05), masks={"first/kernel": mask})
    model.compile(optimizer, "mse")
    train(model, x, y)
    np.testing.assert_array_equal(array(model.weights[0]) != 0, mask)
    assert np.all(array(model.weights[2]) != 0)
    # A copy holds these, and not the zeros that it finds.
    again = HoldZeros.from_config(optimizer.get_config())
    other = network()
    again.build(other.trainable_variables)
    (found,) = again.masks().values()
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(array(other.weights[0]) != 0, mask)


@pytest.mark.parametrize("given", [False, True])
def test_a_model_that_is_shrunk_holds_the_rest(given):
    x, y = data(steps=4)
    model = l0keras.sparsify(network())
    zeros = prune(model)
    (gate,) = l0keras.gates_of(model)
    gate.log_alpha.assign(np.where(np.isin(np.arange(16), [1, 4]), -9, 3))
    path = next(iter(zeros))
    (weights,) = (array(v) for v in model.weights if v.path == path)
    masks = {path: weights != 0} if given else None
    model.compile(HoldZeros(optimizers.Adam(0.01), masks=masks), "mse")
    train(model, x, y)
    l0keras.close_gates(model)
    smaller = l0keras.shrink(model)
    train(smaller, x, y)
    gone = [1, 4]
    if not given:
        # All weights that read a unit are held, too.
        gone += np.flatnonzero(np.all(list(zeros.values())[1], axis=1)).tolist()
        assert len(gone) == 3
    left = np.delete(weights != 0, gone, 1)
    np.testing.assert_array_equal(smaller.optimizer.masks()[path], left)
    (weights,) = (array(v) for v in smaller.weights if v.path == path)
    np.testing.assert_array_equal(weights != 0, left)


def test_units_that_are_zero_go_after_training():
    x, y = data(steps=4)
    model = network()
    weights, bias = (array(w) for w in model.get_layer("first").weights)
    gone = [0, 3, 7, 11]
    weights[:, gone] = 0
    model.get_layer("first").set_weights([weights, bias])
    model.compile(HoldZeros(optimizers.Adam(0.05)), "mse")
    train(model, x, y)
    small = l0keras.strip(model)
    # Their biases were trained, and go into the next layer's.
    assert small.get_layer("first").units == 12
    np.testing.assert_allclose(
        small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
    )


def test_constraints_do_not_move_what_is_held():
    x, y = data(steps=4)
    model = keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(
                6, kernel_constraint=lambda w: ops.maximum(w, 0.01)
            ),
        ]
    )
    zeros = prune(model)
    model.compile(HoldZeros(optimizers.SGD(0.1)), "mse")
    train(model, x, y)
    assert_held(model, zeros)
    (held,) = zeros.values()
    assert array(model.weights[0])[~held].min() == pytest.approx(0.01)


def test_within_groups_of_optimizers():
    x, y = data(steps=4)
    model = network()
    zeros = prune(model)
    groups = [
        ("kernel", HoldZeros(optimizers.SGD(0.1, momentum=0.9))),
        (".", optimizers.Adam(0.01)),
    ]
    model.compile(l0keras.optimizers.OptimizerGroups(groups), "mse")
    train(model, x, y)
    assert_held(model, zeros)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="is TensorFlow's")
def test_replicas_hold_the_same():
    strategy = two_replicas()
    x, y = data(steps=5)
    models = []
    for replicas in (1, 2):
        model = network()
        if replicas == 2:
            with strategy.scope():
                model = network()
        zeros = prune(model)
        with strategy.scope() if replicas == 2 else keras.name_scope(""):
            inner = optimizers.AdamW(0.01, weight_decay=0.1)
            model.compile(
                HoldZeros(inner, use_ema=True), "mse", steps_per_execution=2
            )
        train(model, x, y, epochs=2)
        assert_held(model, zeros)
        models.append(model)
    one, two = models
    for variable in [*two.weights, *two.optimizer.variables]:
        first, second = (v.numpy() for v in variable.value.values)
        np.testing.assert_array_equal(first, second)
    for a, b in zip(one.weights, two.weights):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"rules": ["kernel"]}, "`rules` must be a dictionary"),
        ({"rules": {"kernel": 1}}, "`rules` must be a dictionary"),
        ({"rules": {"(": True}}, "`rules` must have regular"),
        ({"masks": [1]}, "`masks` must be a dictionary"),
        ({"masks": {"a": np.ones(3)}}, "must have boolean arrays"),
        (
            {"rules": {"a": True}, "masks": {"a": np.ones(3, bool)}},
            "`rules` must be None",
        ),
        ({"inner": optimizers.SGD(use_ema=True)}, "must not average"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HoldZeros(**{"inner": optimizers.SGD(0.1), **arguments})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "must have weights that are 0"),
        ({"rules": {"third": True}}, r"\['third'\] match none"),
        ({"rules": {"kernel": True, "t/k": True}}, r"\['t/k'\] match none"),
        ({"masks": {"third/kernel": np.ones(3, bool)}}, "path of 0 of"),
        ({"masks": {"kernel": np.ones(3, bool)}}, "path of 2 of"),
        ({"masks": {"first/kernel": np.ones(3, bool)}}, r"of shape \(3,\)"),
    ],
)
def test_models_that_are_refused(arguments, message):
    model = network()
    if "rules" in arguments:
        prune(model)
    optimizer = HoldZeros(optimizers.SGD(0.1), **arguments)
    with pytest.raises(ValueError, match=message):
        optimizer.build(model.trainable_variables)
    assert not optimizer.built
