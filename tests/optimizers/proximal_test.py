import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras import weight_groups
from l0keras.optimizers import HSPG
from l0keras.optimizers import ProximalSGD
from l0keras.regularizers import WGSEF
from l0keras.regularizers import GroupLasso
from l0keras.regularizers.weight_groups import WeightGroups
from tests.optimizers.sparse_training import BACKEND
from tests.optimizers.sparse_training import array
from tests.optimizers.sparse_training import assert_same
from tests.optimizers.sparse_training import data
from tests.optimizers.sparse_training import gradients
from tests.optimizers.sparse_training import network
from tests.optimizers.sparse_training import train
from tests.optimizers.sparse_training import two_replicas

SGD = keras.optimizers.SGD
ENVELOPE = WGSEF(3, group_weights=list(np.linspace(0.5, 2, 16)))

SKEWED = WGSEF(3, group_weights=list(np.geomspace(0.1, 10, 16)))


def rates():
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [2, 5], [0.3, 0.2, 0.1]
    )


INNER = {
    "sgd": lambda: SGD(rates()),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "cosine": lambda: SGD(keras.optimizers.schedules.CosineDecay(0.2, 9)),
}


# JAX compiles what each step decides anew.
if BACKEND == "jax":
    INNER = {"nesterov": INNER["nesterov"]}


def rate_of(inner, step):
    rate = inner._learning_rate
    if callable(rate):
        return float(rate(step))
    return float(ops.convert_to_numpy(rate))


def rows(model):
    """The weights of each unit of the first layer, and of nothing else."""
    kernel, bias = map(array, model.get_layer("first").weights)
    return np.concatenate([kernel, bias[None]]).T.astype("float64")


def put(model, units):
    kernel, bias = model.get_layer("first").weights
    kernel.assign(units[:, :-1].T)
    bias.assign(units[:, -1])


def step_alone(inner, model, grads):
    """Where the inner optimizer moves the weights; they are put back."""
    before = [array(v) for v in model.trainable_variables]
    inner.apply(grads, model.trainable_variables)
    after = [array(v) for v in model.trainable_variables]
    return before, after


def first_of(values):
    return np.concatenate([values[0], values[1][None]]).T.astype("float64")


class Reference:
    """The steps as they are defined, group by group, in float64."""

    def __init__(self, model, inner, penalty, strength, epsilon=0.0):
        self.model = keras.models.clone_model(model)
        self.model.set_weights(model.get_weights())
        self.inner = inner
        self.penalty, self.strength = penalty, strength
        self.epsilon = epsilon

    def norms(self, units):
        norms = np.sqrt(np.sum(units**2, axis=1))
        return ops.convert_to_tensor(norms.astype("float32"))

    def step(self, number, grads, half_space=False, keep=None):
        model, rate = self.model, rate_of(self.inner, number)
        before = rows(model)
        sizes = before.shape[1]
        if half_space:
            slope = array(self.penalty.slope(self.norms(before), sizes))
            extra = self.strength * slope[:, None] * before
            extra = extra.astype("float32")
            grads = list(grads)
            grads[0] = grads[0] + extra[:, :-1].T
            grads[1] = grads[1] + extra[:, -1]
        self.inner.apply(grads, model.trainable_variables)
        after = rows(model)
        if keep is not None:
            after = after * keep(before, after)[:, None]
        elif half_space:
            inside = np.sum(before * after, axis=1)
            squared = np.sum(before**2, axis=1)
            out = (inside < self.epsilon * squared) | (squared == 0)
            after[out] = 0
        else:
            mu = rate * self.strength
            factors = array(self.penalty.shrink(self.norms(after), mu, sizes))
            after = after * factors[:, None]
        put(model, after)


def assert_close(model, reference):
    for one, other in zip(model.weights, reference.model.weights):
        np.testing.assert_allclose(
            array(one), array(other), rtol=1e-4, atol=1e-5
        )
    np.testing.assert_array_equal(
        rows(model).any(axis=1), rows(reference.model).any(axis=1)
    )


@pytest.mark.parametrize("penalty", [ENVELOPE, GroupLasso()])
@pytest.mark.parametrize("inner", INNER)
def test_proximal_steps(inner, penalty):
    model = network()
    optimizer = ProximalSGD(
        INNER[inner](), weight_groups(model), penalty, strength=0.1
    )
    reference = Reference(model, INNER[inner](), penalty, 0.1)
    for step in range(8):
        grads = gradients(model.trainable_variables, step)
        optimizer.apply(grads, model.trainable_variables)
        reference.step(step, grads)
        assert_close(model, reference)


@pytest.mark.parametrize("penalty", [ENVELOPE, GroupLasso()])
@pytest.mark.parametrize("inner", INNER)
def test_half_space_steps(inner, penalty):
    model = network()
    optimizer = HSPG(
        INNER[inner](),
        weight_groups(model),
        penalty,
        strength=0.05,
        epsilon={"first": 0.99},
        switch_at=3,
    )
    reference = Reference(model, INNER[inner](), penalty, 0.05, 0.99)
    for step in range(8):
        grads = gradients(model.trainable_variables, step)
        optimizer.apply(grads, model.trainable_variables)
        reference.step(step, grads, half_space=step >= 3)
        assert_close(model, reference)
    (counts,) = optimizer.zero_groups()
    assert counts["half_space"] > 0
    assert counts["kept"] == np.count_nonzero(rows(model).any(axis=1))


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 0.999])
def test_nothing_is_projected_without_a_gradient(epsilon):
    model = network()
    before = [array(v) for v in model.weights]
    optimizer = HSPG(SGD(0.1), weight_groups(model), GroupLasso(), 0.0, epsilon)
    zero = [ops.zeros(v.shape) for v in model.trainable_variables]
    for _ in range(3):
        optimizer.apply(zero, model.trainable_variables)
    for one, other in zip(model.weights, before):
        np.testing.assert_array_equal(array(one), other)


def test_zero_groups_stay_zero():
    model = network()
    units = rows(model)
    units[[2, 5]] = 0
    put(model, units)
    optimizer = HSPG(
        SGD(0.1, momentum=0.9), weight_groups(model), WGSEF(4), 1e-3
    )
    for step in range(5):
        grads = gradients(model.trainable_variables, step)
        optimizer.apply(grads, model.trainable_variables)
        assert not rows(model)[[2, 5]].any()


def test_the_order_of_groups_means_nothing():
    model, other = network(), network()
    order = np.random.default_rng(0).permutation(16)
    put(other, rows(model)[order])
    second = other.get_layer("second").kernel
    second.assign(array(second)[order])
    for one, changed in ((model, None), (other, order)):
        optimizer = HSPG(
            SGD(0.3), weight_groups(one), WGSEF(4), 0.1, 0.2, switch_at=2
        )
        for step in range(5):
            grads = gradients(model.trainable_variables, step)
            if changed is not None:
                grads[0] = ops.take(grads[0], changed, axis=1)
                grads[1] = ops.take(grads[1], changed, axis=0)
                grads[2] = ops.take(grads[2], changed, axis=0)
            optimizer.apply(grads, one.trainable_variables)
    np.testing.assert_allclose(
        rows(model)[order], rows(other), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    "kind, penalty, keep",
    [
        (ProximalSGD, SKEWED, None),
        (HSPG, SKEWED, None),
        (HSPG, GroupLasso(), 3),
        (ProximalSGD, WGSEF(7), {"first": 0.2}),
    ],
    ids=["prox", "hspg", "lasso", "share"],
)
def test_exactly_k_groups_stay_in_the_end(kind, penalty, keep):
    model = network()
    optimizer = kind(
        SGD(0.1), weight_groups(model), penalty, 1e-3, keep_at=2, keep=keep
    )
    d = np.ones(16)
    if penalty is SKEWED:
        d = np.array(SKEWED.group_weights)
    reference = Reference(model, SGD(0.1), penalty, 1e-3)
    largest = {}

    def chosen(before, after):
        if not largest:
            norms = np.sqrt(d) * np.sqrt(np.sum(after**2, axis=1))
            largest["kept"] = np.isin(np.arange(16), np.argsort(-norms)[:3])
        return largest["kept"].astype(float)

    for step in range(5):
        grads = gradients(model.trainable_variables, step)
        optimizer.apply(grads, model.trainable_variables)
        reference.step(
            step,
            grads,
            half_space=kind is HSPG and step < 2,
            keep=chosen if step >= 2 else None,
        )
        assert_close(model, reference)
    (counts,) = optimizer.zero_groups()
    assert counts == {
        "name": "first",
        "groups": 16,
        "asked": 3,
        "kept": 3,
        "prox": 0,
        "half_space": 0,
        "top_k": 13,
    }


def test_each_zero_is_of_the_stage_that_made_it():
    model = network()
    units = rows(model)
    units[:5] *= 1e-4
    put(model, units)
    groups = weight_groups(model)
    optimizer = ProximalSGD(SGD(0.1), groups, WGSEF(3), 1e-3, keep_at=1)
    zero = [ops.zeros(v.shape) for v in model.trainable_variables]
    for _ in range(2):
        optimizer.apply(zero, model.trainable_variables)
    (counts,) = optimizer.zero_groups()
    stages = {name: counts[name] for name in ("prox", "half_space", "top_k")}
    assert stages == {"prox": 5, "half_space": 0, "top_k": 8}


@pytest.mark.parametrize("kind", [ProximalSGD, HSPG])
def test_nothing_is_brought_back_to_have_k_groups(kind):
    model = network()
    groups = weight_groups(model)
    optimizer = kind(SGD(0.1, momentum=0.9), groups, WGSEF(6), 0.0, keep_at=1)
    grads = gradients(model.trainable_variables, 0)
    grads[0] = grads[0] * (np.arange(16) >= 4)
    grads[1] = grads[1] * (np.arange(16) >= 4)
    optimizer.apply(grads, model.trainable_variables)
    units = 0.01 * rows(model)
    units[4:] = 0
    put(model, units)
    # The momentum of the units that are 0 now makes them the largest.
    optimizer.apply(grads, model.trainable_variables)
    assert rows(model).any(axis=1).tolist() == [True] * 4 + [False] * 12


def test_rules_choose_by_the_names_of_groups():
    model = keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(8, name="a"),
            keras.layers.Dense(8, name="b"),
            keras.layers.Dense(6, name="c"),
        ]
    )
    optimizer = ProximalSGD(
        SGD(0.1),
        weight_groups(model),
        [("a", WGSEF(2)), (".", GroupLasso())],
        strength={"a": 0.0, "b": 1e6},
    )
    optimizer.build(model.trainable_variables)
    a = array(model.get_layer("a").kernel)
    zero = [ops.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zero, model.trainable_variables)
    np.testing.assert_allclose(array(model.get_layer("a").kernel), a, rtol=1e-6)
    assert not array(model.get_layer("b").kernel).any()
    assert [c["kept"] for c in optimizer.zero_groups()] == [8, 0]
    assert [c["asked"] for c in optimizer.zero_groups()] == [2, None]


@pytest.mark.parametrize("by", ["input_channel", "weight", "layer"])
def test_other_groups_than_channels(by):
    model = network()
    x, y = data(4)
    groups = weight_groups(
        model, by, include=None if by == "layer" else "first"
    )
    k = {"input_channel": 5, "weight": 30, "layer": 1}[by]
    model.compile(
        ProximalSGD(SGD(0.01), groups, WGSEF(k), 1e-2, keep_at=2), "mse"
    )
    train(model, x, y)
    kernel = array(model.get_layer("first").kernel)
    kept = {
        "input_channel": np.any(kernel, axis=1),
        "weight": kernel,
        "layer": [kernel.any(), array(model.get_layer("second").kernel).any()],
    }[by]
    assert np.count_nonzero(kept) == k


def test_parts_of_a_variable_may_be_of_several_layers():
    """The group lasso is a sum over groups, however they are listed."""
    half = np.arange(16) < 8
    units = np.where(half, np.arange(16), -1), np.where(half, -1, np.arange(16))
    models = network(), network()
    for model, indices in zip(models, ([np.arange(16)], units)):
        kernel, bias = model.get_layer("first").weights
        groups = [
            WeightGroups(f"part{i}", 16, [(kernel, own[None]), (bias, own)])
            for i, own in enumerate(indices)
        ]
        penalty = GroupLasso(group_weights=[1.0] * 16)
        optimizer = HSPG(SGD(0.1), groups, penalty, 0.3, 0.9, switch_at=1)
        for step in range(4):
            grads = gradients(model.trainable_variables, step)
            optimizer.apply(grads, model.trainable_variables)
    one, other = map(rows, models)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert 0 < np.count_nonzero(one.any(axis=1)) < 16


# === In a training ===


def recipe(model, **kwargs):
    settings = {"strength": 1.0, "epsilon": 0.3, "switch_at": 6, **kwargs}
    return HSPG(
        SGD(0.05, momentum=0.9), weight_groups(model), WGSEF(4), **settings
    )


def test_training_makes_a_smaller_model_of_the_same_outputs():
    model = network()
    x, y = data(20)
    model.compile(recipe(model), "mse")
    train(model, x, y, epochs=2)
    (counts,) = model.optimizer.zero_groups()
    stripped = l0keras.strip(model)
    assert stripped.get_layer("first").units == counts["kept"] < 16
    np.testing.assert_allclose(
        array(stripped(x)), array(model(x)), rtol=1e-5, atol=1e-5
    )


def test_resumed_training_is_the_same(tmp_path):
    x, y = data(12)
    straight = network()
    straight.compile(recipe(straight), "mse")
    train(straight, x, y, epochs=2)
    model = network()
    model.compile(recipe(model), "mse")
    train(model, x, y)
    model.save(tmp_path / "m.keras")
    keras.utils.clear_session(free_memory=False)
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.zero_groups() == model.optimizer.zero_groups()
    train(loaded, x, y)
    assert_same(loaded, straight)


def test_averages_of_zero_groups_are_zero():
    model = network()
    x, y = data(20)
    model.compile(recipe(model, use_ema=True, ema_momentum=0.9), "mse")
    train(model, x, y, epochs=2)
    (counts,) = model.optimizer.zero_groups()
    # At the end of `fit` Keras puts the averages in the weights' place.
    assert np.count_nonzero(rows(model).any(axis=1)) == counts["kept"] < 16


def test_accumulated_gradients_shrink_once():
    model, other = network(), network()
    x, y = data(8)
    for one, every in ((model, None), (other, 2)):
        inner = SGD(0.05, gradient_accumulation_steps=every)
        one.compile(
            ProximalSGD(inner, weight_groups(one), WGSEF(4), 0.1), "mse"
        )
    train(model, x, y, batch_size=16)
    train(other, x, y, batch_size=8)
    np.testing.assert_allclose(rows(model), rows(other), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_all_replicas_have_the_same_groups():
    strategy = two_replicas()
    x, y = data(16)
    alone = network()
    alone.compile(recipe(alone), "mse")
    train(alone, x, y, epochs=2, batch_size=16)
    with strategy.scope():
        model = network()
        model.compile(recipe(model), "mse")
    train(model, x, y, epochs=2, batch_size=16)
    for variable, own in zip(model.trainable_variables, alone.weights):
        replicas = strategy.experimental_local_results(variable.value)
        for replica in replicas:
            np.testing.assert_array_equal(replica, replicas[0])
        np.testing.assert_allclose(
            replicas[0], array(own), rtol=1e-3, atol=1e-4
        )
    assert model.optimizer.zero_groups() == alone.optimizer.zero_groups()


# === Errors ===


def test_clear_errors():
    model = network()
    groups = weight_groups(model)

    def fails(match, kind=HSPG, **kwargs):
        settings = {
            "inner": SGD(0.1),
            "groups": groups,
            "regularizer": WGSEF(3),
            **kwargs,
        }
        with pytest.raises(ValueError, match=match):
            kind(**settings)

    fails("`groups` must be a list of `WeightGroups`", groups=[])
    fails("`groups` must be a list of `WeightGroups`", groups=[model])
    fails("must be a `GroupRegularizer`", regularizer="wgsef")
    fails("must be a `GroupRegularizer`", regularizer=keras.regularizers.L2())
    fails("at most the number of groups, 16", regularizer=WGSEF(17))
    fails("the 16 groups", regularizer=WGSEF(3, group_weights=[1.0]))
    fails("`strength` must be a number of at least 0", strength=-1e-3)
    fails("`strength` must be one setting or a list", strength=[1e-3])
    fails(r"must have a rule for all.*'first' matches", strength={"x": 1.0})
    fails(
        r"must have groups for each.*\['x'\]", strength={"first": 1.0, "x": 1.0}
    )
    fails("regular expressions", strength={"(": 1.0})
    for epsilon in (1.0, -0.1, True, "0"):
        fails(r"`epsilon` must lie in \[0, 1\)", epsilon=epsilon)
    for step in (-1, 1.5, True):
        fails("`switch_at` must be a number of steps", switch_at=step)
        fails("`keep_at` must be a number of steps", keep_at=step)
    fails("without a second stage", switch_at=None)
    fails("must not be before `switch_at`", switch_at=5, keep_at=4)
    lasso = {"regularizer": GroupLasso(), "keep_at": 4}
    fails("`keep` must say.*GroupLasso for 'first'", **lasso)
    fails("`keep` needs `keep_at`", keep=3)
    for keep in (0, 1.5, True, "3"):
        fails("`keep` must be a number of groups", **lasso, keep=keep)
    fails("`keep` must be at most the number of groups, 16", **lasso, keep=17)
    fails("`keep` must have a rule for all", **lasso, keep={"x": 3})
    fails("`inner` must be a Keras optimizer", kind=ProximalSGD, inner="sgd")


def test_groups_of_another_model():
    model = network()
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = ProximalSGD(SGD(0.1), weight_groups(model), WGSEF(3))
    with pytest.raises(
        ValueError, match="first/kernel', which is the path of 0 of"
    ):
        optimizer.build(other.trainable_variables)
    wider = keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(17, name="first"),
            keras.layers.Dense(6, name="second"),
        ],
        name="net",
    )
    with pytest.raises(ValueError, match=r"groups of shape \(1, 16\) for"):
        optimizer.build(wider.trainable_variables)


def test_groups_that_overlap():
    model = network()
    groups = weight_groups(model) + weight_groups(model, "weight", "first")
    optimizer = ProximalSGD(SGD(0.1), groups, WGSEF(3))
    with pytest.raises(ValueError, match="in one group at most"):
        optimizer.build(model.trainable_variables)


def test_counts_before_there_are_any():
    model = network()
    with pytest.raises(ValueError, match="before it is built"):
        recipe(model).zero_groups()
