import h5py
import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras.optimizers import OptimizerGroups
from tests.optimizers.sparse_training import two_replicas

optimizers = keras.optimizers
BACKEND = keras.backend.backend()


def network():
    """Linear, so that its gradients are easy to write down."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, name="first"),
            keras.layers.Dense(
                2,
                name="second",
                kernel_constraint=HalfWay(),
            ),
        ],
        name="net",
    )


@keras.saving.register_keras_serializable("tests")
class HalfWay(keras.constraints.Constraint):
    """Goes half of the way into [-1, 1], so once is not twice."""

    def __call__(self, w):
        return 0.5 * (w + ops.clip(w, -1.0, 1.0))


def sgd(**kwargs):
    schedule = optimizers.schedules.PiecewiseConstantDecay(
        [2, 5], [0.1, 0.05, 0.02]
    )
    return optimizers.SGD(schedule, momentum=0.9, weight_decay=0.01, **kwargs)


def adam(**kwargs):
    return optimizers.Adam(0.03, **kwargs)


PAIRS = {
    "plain": ({}, {}),
    "clipped": ({"global_clipnorm": 0.1}, {"clipvalue": 0.05}),
    "averaged": ({"use_ema": True, "ema_momentum": 0.8}, {}),
    "overwritten": (
        {},
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3},
    ),
    "accumulated": ({"gradient_accumulation_steps": 2}, {}),
}


def groups(pair="plain"):
    first, second = PAIRS[pair]
    return OptimizerGroups(
        [("first/", sgd(**first)), ("second", adam(**second))]
    )


def data(steps):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8 * steps, 4)).astype("float32")
    return x, rng.normal(size=(8 * steps, 2)).astype("float32")


def gradients(model, x, y):
    """Of the mean squared error."""
    a, a_bias, b, b_bias = (v.numpy() for v in model.trainable_variables)
    hidden = x @ a + a_bias
    error = (hidden @ b + b_bias - y) * 2 / y.size
    back = error @ b.T
    return [x.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]


def train(model, x, y, **kwargs):
    return model.fit(x, y, batch_size=8, shuffle=False, verbose=0, **kwargs)


def compiled(optimizer, seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    model = network()
    model.compile(optimizer, loss="mse", jit_compile=False, **kwargs)
    return model


def assert_same_weights(model, other, **tolerance):
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0}))


@pytest.mark.parametrize(
    "pair, steps_per_execution",
    [*((pair, 1) for pair in PAIRS), ("plain", 4), ("averaged", 4)],
)
def test_each_group_is_trained_as_by_its_optimizer_alone(
    pair, steps_per_execution
):
    x, y = data(steps=8)
    model = compiled(groups(pair), steps_per_execution=steps_per_execution)
    train(model, x, y)

    keras.utils.set_random_seed(0)
    alone = network()
    one, other = sgd(**PAIRS[pair][0]), adam(**PAIRS[pair][1])
    for step in range(8):
        rows = slice(8 * step, 8 * step + 8)
        given = gradients(alone, x[rows], y[rows])
        given = [ops.convert_to_tensor(gradient) for gradient in given]
        one.apply(given[:2], alone.trainable_variables[:2])
        other.apply(given[2:], alone.trainable_variables[2:])
    one.finalize_variable_values(alone.trainable_variables[:2])
    other.finalize_variable_values(alone.trainable_variables[2:])
    assert_same_weights(model, alone, rtol=1e-4, atol=1e-6)
    inner = model.optimizer.optimizers
    assert [float(ops.convert_to_numpy(o._iterations)) for o in inner] == [8, 8]
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 8


def test_first_match_in_the_path_decides():
    model = keras.Sequential(
        [keras.Input((4,)), l0keras.layers.L0Dense(3, name="gated")]
    )
    gates, biases, rest = (optimizers.SGD(0.1) for _ in range(3))
    optimizer = OptimizerGroups(
        [("log_alpha", gates), ("bias$", biases), (".", rest)]
    )
    optimizer.build(model.trainable_variables)
    names = [
        [v.name for v in one._trainable_variables]
        for one in optimizer.optimizers
    ]
    assert names == [["log_alpha"], ["bias"], ["kernel"]]
    assert list(optimizer.optimizers) == [gates, biases, rest]


def test_state_is_in_the_variables():
    model = compiled(groups("averaged"))
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    inner = [v for one in optimizer.optimizers for v in one.variables]
    assert optimizer.variables[0] is optimizer.iterations
    assert [id(v) for v in optimizer.variables[1:]] == [id(v) for v in inner]
    x, y = data(steps=3)
    train(model, x, y)
    store = {}
    optimizer.save_own_variables(store)
    assert len(store) == len(inner) + 1
    copy = OptimizerGroups.from_config(optimizer.get_config())
    copy.build(model.trainable_variables)
    copy.load_own_variables(store)
    for a, b in zip(optimizer.variables, copy.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("pair", ["plain", "overwritten", "accumulated"])
def test_saved_and_loaded_training_goes_on_the_same(pair, tmp_path):
    x, y = data(steps=7)
    straight = compiled(groups(pair))
    train(straight, x[:24], y[:24])
    path = tmp_path / "model.keras"
    straight.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded.optimizer) is OptimizerGroups
    assert loaded.optimizer.get_config() == straight.optimizer.get_config()
    train(straight, x[24:], y[24:])
    train(loaded, x[24:], y[24:])
    assert_same_weights(loaded, straight)
    for a, b in zip(
        loaded.optimizer.variables, straight.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_saved_twice(tmp_path):
    x, y = data(steps=1)
    model = compiled(groups("averaged"))
    train(model, x, y)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    with h5py.File(path) as file:
        assert list(file["optimizer"]) == ["vars"]
        assert len(file["optimizer/vars"]) == len(model.optimizer.variables)


def test_averages_only_of_groups_that_keep_some():
    x, y = data(steps=4)
    model = compiled(groups("averaged"))
    own = {}

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            own["before"] = model.get_weights()
            with l0keras.callbacks.averaged_weights(model):
                own["averaged"] = model.get_weights()
            own["after"] = model.get_weights()

    train(model, x, y, callbacks=[Look()])
    for before, after in zip(own["before"], own["after"], strict=True):
        np.testing.assert_array_equal(before, after)
    # At the end of `fit` the averages become the weights.
    for index, weight in enumerate(model.get_weights()):
        np.testing.assert_array_equal(weight, own["averaged"][index])
        same = np.array_equal(weight, own["before"][index])
        assert same == (index >= 2)


def test_group_without_gradients_waits():
    x, y = data(steps=1)
    model = compiled(groups("averaged"))
    optimizer, variables = model.optimizer, model.trainable_variables
    before = model.get_weights()
    given = [ops.convert_to_tensor(g) for g in gradients(model, x, y)]
    with pytest.warns(UserWarning, match="not exist for .*net/first/kernel"):
        optimizer.apply([None, None, *given[2:]], variables)
    after = model.get_weights()
    for index in range(4):
        assert np.array_equal(before[index], after[index]) == (index < 2)
    steps = [
        int(ops.convert_to_numpy(o.iterations)) for o in optimizer.optimizers
    ]
    assert steps == [1, 1]
    optimizer.finalize_variable_values(variables)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_loss_scaling_around_the_groups():
    x, y = data(steps=4)
    plain = compiled(groups())
    scaled = compiled(optimizers.LossScaleOptimizer(groups()))
    for model in (plain, scaled):
        train(model, x, y)
    assert_same_weights(scaled, plain, rtol=1e-5, atol=1e-6)


def test_learning_rate_is_that_of_the_first_group():
    optimizer = groups()
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    with pytest.raises(AttributeError, match="optimizers.i..learning_rate"):
        optimizer.learning_rate = 0.5
    optimizer.optimizers[1].learning_rate = 0.5
    second = optimizer.optimizers[1].learning_rate
    assert float(ops.convert_to_numpy(second)) == 0.5


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX applies without state")
def test_stateless_apply():
    x, y = data(steps=1)
    model, other = compiled(groups()), compiled(groups())
    for one in (model, other):
        one.optimizer.build(one.trainable_variables)
    given = [ops.convert_to_tensor(g) for g in gradients(model, x, y)]
    before = model.get_weights()
    trained, state = model.optimizer.stateless_apply(
        [v.value for v in model.optimizer.variables],
        given,
        [v.value for v in model.trainable_variables],
    )
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    other.optimizer.apply(given)
    for got, v in zip(trained, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(got, v)
    for got, v in zip(state, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(got, v)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="is TensorFlow's")
@pytest.mark.parametrize("pair", ["plain", "averaged"])
def test_replicas_train_as_one_device(pair):
    x, y = data(steps=5)
    one = compiled(groups(pair))
    with two_replicas().scope():
        two = compiled(groups(pair))
    for model in (one, two):
        train(model, x, y)
    assert_same_weights(two, one, rtol=1e-4, atol=1e-6)
    pairs = zip(two.optimizer.variables, one.optimizer.variables, strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "regexes, message",
    [
        (
            ["first", "bias"],
            r"a group for each .*Received: \['net/second/kernel'\] match none "
            r"of \['first', 'bias'\]",
        ),
        (
            ["frist", "."],
            r"a variable for each .*Received: \['frist'\] match none of "
            r"\['net/first/kernel', .*, 'net/second/bias'\]",
        ),
        ([".", "first"], r"Received: \['first'\] match none"),
    ],
)
def test_groups_and_variables_without_each_other(regexes, message):
    optimizer = OptimizerGroups([(r, optimizers.SGD(0.1)) for r in regexes])
    with pytest.raises(ValueError, match=message):
        optimizer.build(network().trainable_variables)


def test_wrong_groups_are_refused():
    one = optimizers.SGD(0.1)
    scaled = optimizers.SGD(0.1, loss_scale_factor=2.0)
    for wrong, message in (
        ([], "at least one group"),
        ([("a", one), ("b", one)], "another optimizer for each"),
        ([("a", "sgd")], "pairs of a regular expression and a Keras"),
        ([("a", one, one)], "pairs of a regular expression"),
        ([(one, "a")], "Received: groups="),
        ([("(", one)], r"regular expressions. Received: '\('"),
        ([("a", scaled)], "do not scale the loss"),
        ([("a", optimizers.LossScaleOptimizer(one))], "do not scale the"),
    ):
        with pytest.raises(ValueError, match=f"`groups` must .*{message}"):
            OptimizerGroups(wrong)


def test_wrong_gradients_are_refused():
    optimizer, model = groups(), network()
    with pytest.raises(ValueError, match="`trainable_variables` must be the"):
        optimizer.apply([ops.ones((4, 3))])
    optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match="`grads` must have one .*of the 4 va"):
        optimizer.apply([ops.ones((4, 3))])
    other = network().trainable_variables
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([ops.ones((4, 3))] * 4, other)
