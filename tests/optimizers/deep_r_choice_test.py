"""Which connections DEEP R starts from, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras.optimizers import DeepR
from l0keras.optimizers import OptimizerGroups
from l0keras.optimizers import SoftDeepR
from l0keras.optimizers import init_sparse
from tests.optimizers.sparse_training import array
from tests.optimizers.sparse_training import data
from tests.optimizers.sparse_training import gradients
from tests.optimizers.sparse_training import kernel
from tests.optimizers.sparse_training import network
from tests.optimizers.sparse_training import train

optimizers = keras.optimizers
layers = keras.layers


def sgd(**kwargs):
    return optimizers.SGD(0.1, **kwargs)


def built(model, *args, **kwargs):
    optimizer = DeepR(sgd(), *args, seed=1, **kwargs)
    optimizer.build(model.trainable_variables)
    return optimizer


def counts(optimizer):
    return {path: len(p) for path, p in optimizer.positions().items()}


def test_kernels_are_sparse_by_default_and_nothing_else():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Embedding(11, 8, name="embedding"),
            layers.LayerNormalization(name="norm"),
            layers.LSTM(4, name="lstm"),
            layers.Dense(3, name="logits"),
        ],
        name="net",
    )
    before = {v.path: array(v) for v in model.trainable_variables}
    optimizer = built(model, 0.25)
    assert counts(optimizer) == {
        "net/lstm/lstm_cell/kernel": 32,
        "net/lstm/lstm_cell/recurrent_kernel": 16,
        "net/logits/kernel": 3,
    }
    for v in model.trainable_variables:
        if v.path not in counts(optimizer):
            np.testing.assert_array_equal(array(v), before[v.path])
    every = built(model, 0.25, include="embedding|norm/gamma|bias")
    assert len(counts(every)) == 4


def test_first_rule_applies_and_what_no_rule_takes_stays_dense():
    rules = [("second", 0.5), ("net", 0.1)]
    for given in (rules, dict(rules)):
        assert counts(built(network(), given)) == {
            "net/first/kernel": 32,
            "net/second/kernel": 48,
        }
    model = network()
    before = array(model.get_layer("first").kernel)
    assert counts(built(model, [("second", 0.5)])) == {"net/second/kernel": 48}
    np.testing.assert_array_equal(
        array(model.get_layer("first").kernel), before
    )


def test_starts_from_what_init_sparse_left():
    model = network()
    dense = model.get_weights()
    found = init_sparse(model, [("first", 0.1), ("second", 0.2)], seed=3)
    assert found == {"net/first/kernel": 32, "net/second/kernel": 19}
    weights = model.get_weights()
    for before, after in zip(dense, weights):
        kept = after != 0
        np.testing.assert_array_equal(after[kept], before[kept])
    assert [np.count_nonzero(w) for w in weights] == [32, 0, 19, 0]
    optimizer = built(model, [("first", 0.1), ("second", 0.2)])
    for before, after in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(after, before)
    for path, mask in optimizer.masks().items():
        index = 0 if "first" in path else 2
        np.testing.assert_array_equal(mask, weights[index] != 0)
    # Another number of them is drawn from all, also where weights are 0.
    other = built(model, 0.5)
    assert counts(other) == {"net/first/kernel": 160, "net/second/kernel": 48}
    assert np.count_nonzero(model.get_weights()[0]) < 32


def test_with_a_global_budget_the_number_of_all_is_taken_over():
    values = [np.zeros((20, 30)), np.zeros((20, 30))]
    values[0].reshape(-1)[::20], values[1].reshape(-1)[::6] = 0.5, -0.5
    variables = [kernel(None, n, values=v) for n, v in zip("ab", values)]
    # 30 and 100, not 65 each.
    optimizer = DeepR(sgd(), 65 / 600, budget="global", seed=1)
    optimizer.build(variables)
    for v, before in zip(variables, values):
        np.testing.assert_array_equal(array(v), before.astype("float32"))
    assert counts(optimizer) == {"a/kernel": 30, "b/kernel": 100}
    other = DeepR(sgd(), 65 / 600, seed=1)
    other.build(variables)
    assert counts(other) == {"a/kernel": 65, "b/kernel": 65}


def test_start_is_the_same_for_the_same_seed_only():
    masks = []
    for seed in (1, 1, 2):
        model = network()
        init_sparse(model, 0.2, seed=seed)
        masks.append(
            np.concatenate([w.ravel() != 0 for w in model.get_weights()])
        )
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()
    # Arrays of the same shape have connections of their own, also those of
    # nested models, which may have the same path.
    for names in ("ab", "aa"):
        twins = [kernel((30, 20), names[0], 1), kernel((30, 20), names[1], 2)]
        DeepR(sgd(), 0.2, seed=1).build(twins)
        first, second = (array(twin) != 0 for twin in twins)
        assert first.sum() == second.sum() == 120
        assert (first != second).any()


def test_builds_inside_of_the_first_step():
    x, y = data(steps=1)
    model = network()
    model.compile(DeepR(sgd(), 0.2), loss="mse", jit_compile=False)
    model.train_on_batch(x, y)
    assert counts(model.optimizer) == {
        "net/first/kernel": 64,
        "net/second/kernel": 19,
    }
    assert np.count_nonzero(model.get_weights()[0]) <= 64


def test_learning_rate_is_that_of_the_inner_optimizer():
    optimizer = DeepR(sgd())
    optimizer.learning_rate = 0.5
    rate = ops.convert_to_numpy(optimizer.optimizers[0].learning_rate)
    assert float(rate) == float(ops.convert_to_numpy(optimizer.learning_rate))
    assert float(rate) == 0.5


def test_stripped_network_loses_what_is_left_without_connections():
    x, y = data(steps=2)
    model = network()
    model.compile(DeepR(sgd(), 0.02, seed=1), loss="mse", jit_compile=False)
    train(model, x, y)
    small = l0keras.strip(model)
    np.testing.assert_allclose(
        small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
    )
    assert small.count_params() < model.count_params() / 2


@pytest.mark.parametrize("other", ["connectivity", "budget", "inner", "bias"])
def test_checkpoint_of_other_connections_is_refused(other, tmp_path):
    x, y = data(steps=1)
    model = network()
    model.compile(DeepR(sgd(), 0.2, seed=1), loss="mse", jit_compile=False)
    train(model, x, y)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    arguments = {
        "connectivity": (sgd(), 0.3),
        "budget": (sgd(), 0.2, 1e-4, 0.0, "global"),
        "inner": (sgd(momentum=0.5), 0.2),
        "bias": (sgd(), 0.2, 1e-4, 0.0, "layer", "second"),
    }[other]
    copy = network()
    copy.compile(DeepR(*arguments), loss="mse", jit_compile=False)
    copy.optimizer.build(copy.trainable_variables)
    with pytest.raises(ValueError, match="does not fit(.|\n)*variables here"):
        copy.load_weights(path)


def test_checkpoint_whose_positions_are_none_is_refused():
    model = network()
    optimizer = built(model, 0.2)
    store = {}
    optimizer.save_own_variables(store)
    index = [v.name for v in optimizer.variables].index("positions")
    for wrong in (-1, 10_000):
        broken = {k: np.array(v) for k, v in store.items()}
        broken[str(index)][3] = wrong
        with pytest.raises(ValueError, match="does not fit.*positions"):
            optimizer.load_own_variables(broken)
    twice = {k: np.array(v) for k, v in store.items()}
    twice[str(index)][3] = twice[str(index)][4]
    with pytest.raises(ValueError, match="does not fit.*positions"):
        optimizer.load_own_variables(twice)
    optimizer.load_own_variables(store)


@pytest.mark.parametrize("make", [DeepR, SoftDeepR])
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"connectivity": 0}, r"`connectivity` .*\(0, 1\].*connectivity=0"),
        ({"connectivity": 1.2}, r"\(0, 1\]. Received: connectivity=1.2"),
        ({"connectivity": True}, r"`connectivity` must lie"),
        ({"connectivity": [("a", 2)]}, r"\(0, 1\]"),
        ({"connectivity": [("(", 0.1)]}, "regular expressions. Received: '.'"),
        ({"connectivity": [0.1]}, "a number or a list of pairs"),
        ({"connectivity": []}, "at least one rule"),
        ({"l1": -1e-4}, "`l1` must .*l1=-0.0001"),
        ({"l1": float("nan")}, "`l1` must "),
        ({"temperature": -1}, "`temperature` must .*temperature=-1"),
        ({"include": "("}, "`include` must have regular"),
        ({"seed": -1}, "`seed` must be an integer"),
        ({"seed": 0.5}, "`seed` must be an integer"),
        ({"inner": "sgd"}, "`inner` must be a Keras opt.*inner='sgd'"),
        ({"inner": sgd(use_ema=True)}, "`inner` must not average weights"),
        ({"inner": sgd(loss_scale_factor=2.0)}, "does not scale the loss"),
        (
            {"inner": optimizers.LossScaleOptimizer(sgd())},
            "does not scale the loss",
        ),
        (
            {"inner": OptimizerGroups([(".", sgd())])},
            "one optimizer with one learning rate",
        ),
        ({"inner": DeepR(sgd())}, "one optimizer with one learning rate"),
    ],
)
def test_wrong_arguments_are_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**{"inner": sgd(), **arguments})


def test_what_only_one_of_them_refuses():
    with pytest.raises(ValueError, match="`budget` .*Received: budget='all'"):
        DeepR(sgd(), budget="all")
    for arguments, message in (
        ({"l1": 0}, "`l1` must be above 0"),
        ({"temperature": 0}, "`temperature` must be above 0"),
        ({"connectivity": 1}, "`connectivity` must be less than 1"),
    ):
        with pytest.raises(ValueError, match=message):
            SoftDeepR(sgd(), **arguments)
    used = sgd()
    used.build([kernel((3, 4))])
    with pytest.raises(ValueError, match="not yet built"):
        DeepR(used)


@pytest.mark.parametrize("make", [DeepR, SoftDeepR])
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"connectivity": 0.001}, "at least one .*0.001 for 'net/first/ker"),
        (
            {"connectivity": [("frist", 0.1), (".", 0.1)]},
            r"\['frist'\] match none of \['net/first/kernel', 'net/second",
        ),
        (
            {"connectivity": [(".", 0.1), ("first", 0.1)]},
            r"\['first'\] match none of",
        ),
        (
            {"include": "frist"},
            r"`include` .*include='frist'.*none of \['net/first/kernel', 'net",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused(make, arguments, message):
    model = network()
    optimizer = make(sgd(), **arguments)
    with pytest.raises(ValueError, match=message):
        optimizer.build(model.trainable_variables)
    assert not optimizer.built
    if make is DeepR:
        with pytest.raises(ValueError, match=message):
            init_sparse(model, **arguments)


def test_wrong_calls_are_refused():
    variables = [kernel((20, 30))]
    optimizer = DeepR(sgd(), 0.1)
    with pytest.raises(ValueError, match="`trainable_variables` must be the"):
        optimizer.apply(gradients(variables, 0))
    with pytest.raises(ValueError, match="before it is built"):
        optimizer.masks()
    optimizer.build(variables)
    with pytest.raises(ValueError, match="one gradient for each of the 1 var"):
        optimizer.apply(gradients(variables, 0) * 2)
    with pytest.raises(ValueError, match="`model` must be built"):
        init_sparse(keras.Sequential([layers.Dense(3)]))
