import keras
import numpy as np
import pytest
from keras import ops

from l0keras import optimizers as ours
from l0keras.connections.seeds import StepSeed
from l0keras.optimizers import DeepR
from tests import covering
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
layers = keras.layers


def schedule():
    return optimizers.schedules.PiecewiseConstantDecay([2, 5], [0.3, 0.2, 0.1])


INNER = {
    "sgd": lambda: optimizers.SGD(schedule()),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.1),
    "decay": lambda: optimizers.AdamW(schedule(), weight_decay=0.1),
    "clipped": lambda: optimizers.SGD(0.5, clipvalue=0.3),
}
if BACKEND == "jax":
    # There each step compiles anew.
    INNER = {name: INNER[name] for name in ("momentum", "clipped")}


class BruteForce:
    """DEEP R connection by connection, in Python, from the same draws."""

    def __init__(self, optimizer, weights, signs, l1, temperature):
        self.pool = optimizer._pools[0]
        self.slots = [int(p) for p in array(self.pool.positions)]
        self.weights = [w.astype("float64") for w in weights]
        self.signs = [s.astype("float64") for s in signs]
        self.l1, self.temperature = l1, temperature
        self.seed = optimizer.seed

    def entry(self, position):
        for index, member in enumerate(self.pool.members):
            if position < member.base + member.size:
                return index, position - member.base

    def step(self, number, moved, rate):
        """`moved` is where the inner optimizer has put the weights."""
        noise = array(
            keras.random.normal(
                (len(self.slots),), seed=StepSeed(self.seed, number)
            )
        )
        thetas, dead = [], []
        for slot, position in enumerate(self.slots):
            index, place = self.entry(position)
            sign = self.signs[index].flat[place]
            theta = sign * float(moved[index].flat[place])
            theta -= rate * self.l1
            theta += np.sqrt(2 * rate * self.temperature) * noise[slot]
            thetas.append(theta)
            if theta <= 0:
                dead.append(slot)
        for slot in dead:
            self.slots[slot] = None
            thetas[slot] = 0.0
        self.fill(dead, number)
        for index, weights in enumerate(self.weights):
            self.weights[index] = np.zeros_like(weights)
        for position, theta in zip(self.slots, thetas):
            index, place = self.entry(position)
            sign = self.signs[index].flat[place]
            self.weights[index].flat[place] = sign * theta

    def fill(self, dead, number):
        pool, count = self.pool, 0
        while dead:
            seed = StepSeed(self.seed + 1, number * 64 + count)
            proposals = [int(p) for p in array(pool._propose(seed))]
            taken = {p for p in self.slots if p is not None}
            free = [
                p
                for p in proposals
                if proposals.count(p) == 1 and p not in taken
            ]
            for p in free:
                index, _ = self.entry(p)
                for slot in dead:
                    member = pool.members[index]
                    own = 0 <= slot - member.start < member.count
                    if own or not pool.pinned:
                        self.slots[slot] = p
                        dead.remove(slot)
                        break
            count += 1


@pytest.mark.parametrize("budget", ["layer", "global"])
@pytest.mark.parametrize("inner", INNER)
def test_as_connection_by_connection(inner, budget):
    variables = [
        kernel((17, 9), "a", 1),
        kernel((9,), "a", 2, "bias"),
        kernel((3, 5, 11), "b", 3),
    ]
    signs = [np.sign(array(variables[i])) for i in (0, 2)]
    optimizer = DeepR(
        INNER[inner](), 0.3, 0.3, temperature=0.01, budget=budget, seed=5
    )
    optimizer.build(variables)
    weights = [array(variables[i]) for i in (0, 2)]
    brute = BruteForce(optimizer, weights, signs, 0.3, 0.01)
    other = INNER[inner]()
    copies = [kernel(v.shape, f"c{i}") for i, v in enumerate(variables)]
    for copy, v in zip(copies, variables):
        copy.assign(v)
    other.build(copies)
    replaced = 0
    for step in range(8):
        given = gradients(variables, step)
        rate = float(ops.convert_to_numpy(other.learning_rate))
        other.apply(given, copies)
        optimizer.apply(given, variables)
        before = list(brute.slots)
        brute.step(step, [array(copies[0]), array(copies[2])], rate)
        replaced += sum(a != b for a, b in zip(before, brute.slots))
        assert sorted(brute.slots) == sorted(
            array(optimizer._pools[0].positions)
        )
        for index, own in zip((0, 2), brute.weights):
            np.testing.assert_allclose(
                array(variables[index]), own, rtol=1e-4, atol=1e-5
            )
            # The next step starts from exactly the same.
            copies[index].assign(variables[index])
        np.testing.assert_allclose(
            array(variables[1]), array(copies[1]), rtol=1e-5, atol=1e-6
        )
    # Or else there would have been nothing to compare.
    assert replaced > 50
    assert sum(optimizer.rewired().values()) >= replaced


def attention():
    image = keras.Input((6, 8))
    x = layers.MultiHeadAttention(2, 4, name="attention")(image, image)
    return keras.Model(image, layers.GlobalAveragePooling1D()(x))


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.SeparableConv2D(5, 3, name="separable"),
            layers.Flatten(),
            layers.Dense(3, name="logits"),
        ]
    )


def recurrent():
    return keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.LSTM(6, return_sequences=True, name="lstm"),
            layers.GRU(5, name="gru"),
            layers.Reshape((1, 5)),
            layers.EinsumDense("abc,cd->abd", (1, 4), name="einsum"),
        ]
    )


@pytest.mark.parametrize(
    "case, share, budget",
    covering.pairs(
        [(attention, 4), (convolutional, 5), (recurrent, 5)],
        [0.2, 0.7],
        ["layer", "global"],
    ),
)
def test_number_and_signs_after_every_step(case, share, budget):
    make, count = case
    if BACKEND == "jax" and share == 0.7:
        pytest.skip("compiles every operation for every shape")
    model = make()
    before = {v.path: array(v) for v in model.trainable_variables}
    optimizer = DeepR(optimizers.Adam(0.05), share, 0.1, budget=budget, seed=1)
    optimizer.build(model.trainable_variables)
    sparse = optimizer.masks()
    assert len(sparse) == count
    assert all("kernel" in path for path in sparse)
    expected = {p: round(share * before[p].size) for p in sparse}
    signs = {p: np.sign(before[p]) for p in sparse}
    shape = (16, *model.input_shape[1:])
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype("float32")
    y = rng.normal(size=(16, *model.output_shape[1:])).astype("float32")
    model.compile(optimizer, loss="mse", jit_compile=BACKEND == "jax")
    for step in range(4):
        masks = optimizer.masks()
        for v in model.trainable_variables:
            if v.path not in masks:
                continue
            weight = array(v)
            assert not weight[~masks[v.path]].any()
            known = signs[v.path] != 0
            held = weight * signs[v.path] >= 0
            assert held[known].all()
            # Signs of weights that start as 0 show when they become active.
            signs[v.path] = np.where(known, signs[v.path], np.sign(weight))
            if step == 0:
                np.testing.assert_array_equal(
                    weight, np.where(masks[v.path], before[v.path], 0)
                )
        found = {p: int(mask.sum()) for p, mask in masks.items()}
        if budget == "layer" or step == 0:
            assert found == expected
        assert sum(found.values()) == sum(expected.values())
        model.train_on_batch(x, y)
    assert sum(optimizer.rewired().values()) > 3
    shares = optimizer.active_shares()
    assert {p: round(s * before[p].size) for p, s in shares.items()} == {
        p: len(where) for p, where in optimizer.positions().items()
    }


def test_new_connection_that_does_not_move_its_way_is_gone_again():
    values = np.ones((20, 30))
    variable = kernel(None, values=values)
    optimizer = DeepR(optimizers.SGD(1.0), 0.1, l1=0.0, seed=1)
    optimizer.build([variable])
    down = ops.ones((20, 30))
    start = optimizer.positions()["layer/kernel"]
    optimizer.apply([2 * down], [variable])
    second = optimizer.positions()["layer/kernel"]
    assert optimizer.rewired() == {"layer/kernel": 60}
    assert not array(variable).any()
    # With theta = 0 and no gradient; then with one that holds them.
    optimizer.apply([0 * down], [variable])
    third = optimizer.positions()["layer/kernel"]
    assert optimizer.rewired() == {"layer/kernel": 120}
    optimizer.apply([-down], [variable])
    fourth = optimizer.positions()["layer/kernel"]
    assert optimizer.rewired() == {"layer/kernel": 120}
    assert len({tuple(p) for p in (start, second, third)}) == 3
    np.testing.assert_array_equal(third, fourth)
    assert array(variable).sum() == 60


@pytest.mark.parametrize(
    "share, budget, accumulate", [(0.1, "layer", None), (0.6, "global", 3)]
)
def test_saved_and_loaded_training_goes_on_the_same(
    share, budget, accumulate, tmp_path
):
    if BACKEND == "jax" and accumulate:
        pytest.skip("compiles every operation for every shape")
    x, y = data(steps=8)
    model = network()
    inner = optimizers.Adam(0.05, gradient_accumulation_steps=accumulate)
    optimizer = DeepR(
        inner, share, 0.1, temperature=1e-4, budget=budget, use_ema=True
    )
    model.compile(optimizer, loss="mse", jit_compile=False)
    train(model, x[:32], y[:32])
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded.optimizer) is DeepR
    assert loaded.optimizer.get_config() == optimizer.get_config()
    assert_same(loaded, model)
    before = optimizer.rewired()
    for one in (model, loaded):
        train(one, x[32:], y[32:])
    assert_same(loaded, model)
    assert optimizer.rewired() != before


def test_steps_wait_for_accumulated_gradients():
    every, once = kernel((20, 30)), kernel((20, 30))
    slow = DeepR(
        optimizers.SGD(0.3, gradient_accumulation_steps=3), 0.2, 0.1, seed=1
    )
    fast = DeepR(optimizers.SGD(0.3), 0.2, 0.1, seed=1)
    slow.build([every])
    given = [array(gradients([every], step)[0]) for step in range(6)]
    for step in range(6):
        before, active = array(every), slow.positions()["layer/kernel"]
        slow.apply([ops.convert_to_tensor(given[step])], [every])
        if step % 3 < 2:
            np.testing.assert_array_equal(array(every), before)
            # Also of those whose weight is 0 still.
            now = slow.positions()["layer/kernel"]
            np.testing.assert_array_equal(now, active)
    assert slow.rewired()["layer/kernel"] > 5
    fast.apply([ops.convert_to_tensor(sum(given[:3]) / 3)], [once])
    assert fast.rewired()["layer/kernel"] > 2
    mask = fast.masks()["layer/kernel"]
    assert mask.sum() == slow.masks()["layer/kernel"].sum() == 120


@pytest.mark.parametrize("inner", [{"clipnorm": 0.5}, {"global_clipnorm": 0.5}])
def test_norms_are_those_of_active_connections(inner):
    variable = kernel((20, 30))
    optimizer = DeepR(optimizers.SGD(1e-3, **inner), 0.1, 0.0, seed=1)
    optimizer.build([variable])
    mask = optimizer.masks()["layer/kernel"]
    before = array(variable)
    (given,) = gradients([variable], 0)
    optimizer.apply([given], [variable])
    moved = (before - array(variable))[mask] / 1e-3
    active = array(given)[mask]
    stayed = array(variable)[mask] != 0
    expected = active * 0.5 / np.linalg.norm(active)
    np.testing.assert_allclose(moved[stayed], expected[stayed], atol=1e-4)
    assert stayed.sum() > 50


def test_constraints_are_those_of_active_connections():
    variable = kernel((20, 30))
    variable.constraint = keras.constraints.UnitNorm(axis=None)
    optimizer = DeepR(optimizers.SGD(0.01), 0.1, 0.0, seed=1)
    optimizer.build([variable])
    mask = optimizer.masks()["layer/kernel"]
    (given,) = gradients([variable], 0)
    moved = np.where(mask, array(variable) - 0.01 * array(given), 0)
    optimizer.apply([given], [variable])
    found = array(variable)[mask]
    stayed = found != 0
    expected = moved[mask] / np.linalg.norm(moved)
    np.testing.assert_allclose(found[stayed], expected[stayed], rtol=1e-4)
    assert stayed.sum() > 50


def test_noise_does_not_need_l1():
    variable = kernel(None, values=np.ones((50, 40)))
    optimizer = DeepR(optimizers.SGD(0.1), 0.5, 0.0, 0.05, seed=1)
    optimizer.build([variable])
    mask = optimizer.masks()["layer/kernel"]
    optimizer.apply([ops.zeros((50, 40))], [variable])
    moved = array(variable)[mask] - 1
    # Ten standard deviations away from 0, none dies.
    assert optimizer.rewired() == {"layer/kernel": 0}
    assert abs(moved.mean()) < 0.01
    assert moved.std() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    "dtype, budget",
    [("bfloat16", "layer"), ("bfloat16", "global"), ("float16", "layer")],
)
def test_arrays_of_other_precisions(dtype, budget):
    if BACKEND == "jax" and (dtype, budget) != ("bfloat16", "layer"):
        pytest.skip("compiles every operation for every shape")
    variables = [
        kernel((20, 30), "a", 1, dtype=dtype),
        kernel((15, 20), "b", 2),
    ]
    optimizer = DeepR(optimizers.SGD(0.3), 0.2, 0.3, budget=budget, seed=1)
    optimizer.build(variables)
    signs = [np.sign(array(v).astype("float32")) for v in variables]
    for step in range(3):
        optimizer.apply(gradients(variables, step), variables)
    assert [v.dtype for v in variables] == [dtype, "float32"]
    assert min(optimizer.rewired().values()) > 5
    masks = optimizer.masks()
    assert sum(mask.sum() for mask in masks.values()) == 120 + 60
    for v, sign in zip(variables, signs):
        weight = array(v).astype("float32")
        assert not weight[~masks[v.path]].any()
        assert (weight * sign >= 0).all()
    # Only what is of the same precision is rewired together.
    assert len(optimizer._pools) == (2 if budget == "layer" else 1)


def test_averages_are_those_of_active_connections():
    variable = kernel((20, 30))
    optimizer = DeepR(
        optimizers.SGD(0.3), 0.2, 0.1, seed=1, use_ema=True, ema_momentum=0.8
    )
    optimizer.build([variable])
    average = 0.0
    for step in range(6):
        optimizer.apply(gradients([variable], step), [variable])
        momentum = 0.8 if step else 0.0
        mask = optimizer.masks()["layer/kernel"]
        average = (momentum * average + (1 - momentum) * array(variable)) * mask
        np.testing.assert_allclose(
            array(optimizer._model_variables_moving_average[0]),
            average,
            rtol=1e-5,
            atol=1e-6,
        )
    assert (average != 0).sum() < 120
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(array(variable), average, rtol=1e-5, atol=1e-6)


def test_inside_of_groups_and_of_loss_scaling():
    x, y = data(steps=4)
    models = []
    for wrap in (lambda o: o, optimizers.LossScaleOptimizer):
        model = network()
        sparse = DeepR(optimizers.SGD(0.1), 0.2, 0.3, seed=1)
        groups = ours.OptimizerGroups(
            [("kernel", sparse), (".", optimizers.Adam(0.01))]
        )
        model.compile(wrap(groups), loss="mse", jit_compile=False)
        train(model, x, y)
        assert sum(sparse.rewired().values()) > 5
        assert [m.sum() for m in sparse.masks().values()] == [64, 19]
        models.append(model)
    for a, b in zip(models[0].weights, models[1].weights):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_several_steps_per_execution_are_the_same_as_one_by_one(jit_compile):
    x, y = data(steps=6)
    results = []
    for steps in (1, 3):
        model = network()
        model.compile(
            DeepR(optimizers.SGD(0.1), 0.2, 1e-2, seed=1),
            loss="mse",
            steps_per_execution=steps,
            jit_compile=jit_compile,
        )
        train(model, x, y)
        results.append(model)
    one, other = results
    for a, b in zip(one.weights, other.weights):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-4, atol=1e-6)
    assert one.optimizer.rewired() == other.optimizer.rewired()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="is TensorFlow's")
@pytest.mark.parametrize("budget", ["layer", "global"])
def test_replicas_rewire_the_same(budget):
    strategy = two_replicas()
    x, y = data(steps=5)

    def compiled():
        model = network()
        optimizer = DeepR(
            optimizers.SGD(0.1, momentum=0.5),
            0.2,
            1e-2,
            temperature=1e-4,
            budget=budget,
            seed=1,
        )
        model.compile(optimizer, loss="mse", jit_compile=False)
        return model

    one = compiled()
    with strategy.scope():
        two = compiled()
    for model in (one, two):
        train(model, x, y, epochs=4)
    for variable in [*two.weights, *two.optimizer.variables]:
        first, second = (v.numpy() for v in variable.value.values)
        np.testing.assert_array_equal(first, second)
    assert one.optimizer.rewired() == two.optimizer.rewired()
    assert sum(one.optimizer.rewired().values()) > 20
    for a, b in zip(one.weights, two.weights):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-3, atol=1e-5)
    masks = two.optimizer.masks()
    assert sum(m.sum() for m in masks.values()) == 64 + 19
    for v in two.trainable_variables:
        if v.path in masks:
            assert not array(v)[~masks[v.path]].any()
