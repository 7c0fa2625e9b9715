import math

import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras import GateGenerator
from l0keras import HardConcreteGate
from l0keras import SharedGate
from l0keras.regularizers import ExpectedCost
from tests.testing import sigmoid

# The widths of the gated convolutions of VGG16.
VGG16 = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
COST = ExpectedCost([(9, [(0, {0: 1}), (0, {1: 1})])], [3, 2], l0=0.1)


def numpy(tensors):
    return [ops.convert_to_numpy(tensor) for tensor in tensors]


def by_path(generator):
    return {
        weight.path.split("/")[-1]: ops.convert_to_numpy(weight)
        for weight in generator.trainable_weights
    }


def chained(generator, order, inputs):
    """The paper's recursion, in numpy."""
    weights = by_path(generator)
    hidden = np.ones(inputs)
    made = {}
    for index in order:
        product = hidden @ weights[f"kernel_{index}"]
        hidden = math.log(100) * np.tanh(product + weights[f"bias_{index}"])
        made[index] = hidden
    return [made[index] for index in sorted(made)]


@pytest.mark.parametrize(
    "dependence, order, inputs, shapes",
    [
        ("forward", (0, 1, 2), None, [(3, 3), (3, 5), (5, 4)]),
        ("forward", (0, 1, 2), 7, [(7, 3), (3, 5), (5, 4)]),
        ("backward", (2, 1, 0), None, [(5, 3), (4, 5), (4, 4)]),
        ("backward", (2, 1, 0), 7, [(5, 3), (4, 5), (7, 4)]),
    ],
)
def test_chain(dependence, order, inputs, shapes):
    generator = GateGenerator([3, 5, 4], dependence, inputs, seed=1)
    made = numpy(generator(np.zeros((2, 8))))
    rng = np.random.default_rng(0)
    for weight in generator.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    weights = by_path(generator)
    assert [weights[f"kernel_{index}"].shape for index in range(3)] == shapes
    first = inputs or (3 if order[0] == 0 else 4)
    expected = chained(generator, order, first)
    for one, other in zip(numpy(generator.log_alphas()), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    # Before, the first weights were others.
    assert not np.allclose(made[0], expected[0])


def test_nothing_but_the_neighbour_counts():
    generator = GateGenerator([3, 5, 4], "forward", seed=0)
    generator(np.zeros((1, 1)))
    before = numpy(generator.log_alphas())
    [last] = [
        w for w in generator.trainable_weights if w.path.endswith("kernel_2")
    ]
    last.assign(last + 1.0)
    after = numpy(generator.log_alphas())
    assert [np.allclose(a, b) for a, b in zip(before, after)] == [1, 1, 0]


def test_without_dependence_there_are_variables():
    generator = GateGenerator([3, 50_000], None, droprate_init=0.2, seed=0)
    made = numpy(generator(np.zeros((1, 1))))
    assert [w.shape for w in generator.trainable_weights] == [(3,), (50_000,)]
    assert made[1].mean() == pytest.approx(math.log(4), abs=5e-4)
    assert made[1].std() == pytest.approx(0.01, rel=0.03)
    # As for a gate's own, 99 and 1 percent are the limits.
    limit = generator.weights[0].constraint(ops.ones(3) * 9.0)
    np.testing.assert_allclose(limit, math.log(100), rtol=1e-6)


def test_first_weights():
    generator = GateGenerator([200, 300], "forward", inputs=100, seed=0)
    generator.build((None, 1))
    weights = by_path(generator)
    for name, inputs in (("kernel_0", 100), ("kernel_1", 200)):
        bound = 1 / math.sqrt(inputs)
        assert np.abs(weights[name]).max() <= bound
        assert np.abs(weights[name]).max() > 0.999 * bound
        # Of a uniform distribution.
        assert weights[name].std() == pytest.approx(bound / 3**0.5, rel=0.01)
    for name in ("bias_0", "bias_1"):
        assert weights[name].mean() == pytest.approx(3, abs=0.003)
        assert weights[name].std() == pytest.approx(0.01, rel=0.2)


def test_share_of_gates_closed_at_the_start():
    shares, open_ = [], []
    for seed in range(12):
        generator = GateGenerator(VGG16, "forward", inputs=64, seed=seed)
        generator.build((None, 1))
        made = np.concatenate(numpy(generator.log_alphas()))
        shares.append(np.mean(made <= -math.log(11)))
        open_.append(np.mean(sigmoid(made + 2 / 3 * math.log(11))))
    # Measured with the initial weights of torch's linear layers: 7 to 9
    # percent, and P(open) about 0.92; Glorot's would close 15 to 22.
    assert 0.06 < np.mean(shares) < 0.09
    assert np.mean(open_) == pytest.approx(0.92, abs=0.01)


def test_published_sizes():
    # 64 -> 64 -> 64 -> 128 -> ... of Dep-L0's VGG16: 1.64 million parameters.
    generator = GateGenerator(VGG16, "forward", inputs=64)
    generator.build((None, 1))
    sizes = [np.prod(w.shape) for w in generator.trainable_weights]
    assert sum(sizes) == pytest.approx(1.64e6, rel=0.002)


def gated(dependence="forward", penalty=COST, **arguments):
    inputs = keras.Input((3,))
    first, second = GateGenerator(
        [3, 2], dependence, penalty=penalty, seed=0, name="generator"
    )(inputs)
    x = HardConcreteGate(name="one", **arguments)(inputs, log_alpha=first)
    x = keras.layers.Dense(2, name="dense")(x)
    x = HardConcreteGate(name="two", **arguments)(x, second)
    return keras.Model(inputs, x)


def test_gates_are_those_of_the_generator():
    model = gated()
    first, second = numpy(model.get_layer("generator").log_alphas())
    for name, log_alpha in (("one", first), ("two", second)):
        gate = model.get_layer(name)
        expected = np.clip(1.2 * sigmoid(log_alpha) - 0.1, 0, 1)
        np.testing.assert_allclose(gate.test_gates(), expected, rtol=1e-5)
        assert gate.count_open() == np.count_nonzero(expected)
        prob = sigmoid(log_alpha + 2 / 3 * math.log(11))
        np.testing.assert_allclose(gate.prob_open(), prob, rtol=1e-5)
        assert not gate.weights
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    one, two = (model.get_layer(name).test_gates() for name in ("one", "two"))
    kernel, bias = model.get_layer("dense").get_weights()
    expected = ((x * one) @ kernel + bias) * two
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-6)


def test_generator_is_part_of_the_graph_once():
    model = gated()
    assert len(model.get_layer("generator")._inbound_nodes) == 1
    assert l0keras.gates_of(model) == [
        model.get_layer("one"),
        model.get_layer("two"),
    ]


def test_training_moves_the_generator():
    model = gated(droprate_init=0.5)
    model.compile("sgd", "mse")
    before = by_path(model.get_layer("generator"))
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    model.fit(x, x[:, :2], epochs=2, verbose=0)
    after = by_path(model.get_layer("generator"))
    assert all(np.any(before[name] != after[name]) for name in before)


def test_penalty_is_that_of_the_log_alphas():
    model = gated()
    x = np.zeros((2, 3), "float32")
    model(x)
    probs = [model.get_layer(name).prob_open() for name in ("one", "two")]
    expected = 0.1 * 9 * probs[0].sum() * probs[1].sum()
    [loss] = model.losses
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    model.get_layer("generator").trainable = False
    model(x)
    assert not model.losses


def test_generated_gates_pay_for_themselves():
    model = gated(penalty=None, l0=0.1, group_size=5)
    model(np.zeros((2, 3), "float32"))
    probs = [model.get_layer(name).prob_open() for name in ("one", "two")]
    expected = [0.5 * prob.sum() for prob in probs]
    np.testing.assert_allclose(np.array(model.losses), expected, rtol=1e-5)
    for name in ("one", "two"):
        model.get_layer(name).trainable = False
    model(np.zeros((2, 3), "float32"))
    assert not model.losses


def test_frozen_gates_do_not_sample():
    model = gated(None)
    model.get_layer("generator").weights[0].assign([0.0, 1.0, -1.0])
    x = np.ones((4, 3), "float32")
    assert np.any(model(x, training=True) != model(x))
    for name in ("one", "two"):
        model.get_layer(name).trainable = False
    np.testing.assert_array_equal(model(x, training=True), model(x))


def test_save_and_load(tmp_path):
    model = gated("backward")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert float(loaded.losses[0]) == float(model.losses[0])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_does_not_round_gates_shut(policy):
    inputs = keras.Input((1,))
    generator = GateGenerator([1], None, dtype=policy)
    [log_alpha] = generator(inputs)
    outputs = HardConcreteGate(dtype=policy)(inputs, log_alpha=log_alpha)
    shared = SharedGate(1, dtype=policy)(inputs, log_alpha=log_alpha)
    model = keras.Model(inputs, [outputs, shared])
    # Half precision has no number between the threshold and this.
    generator.weights[0].assign([-math.log(11) + 4e-4])
    assert log_alpha.dtype == "float32"
    assert outputs.dtype == policy.removeprefix("mixed_")
    assert all(float(y[0, 0]) > 0 for y in model(np.ones((1, 1))))


def test_strip_drops_the_generator():
    model = gated("forward")
    stripped = l0keras.strip(model)
    kinds = {type(layer).__name__ for layer in stripped.layers}
    assert not kinds & {"GateGenerator", "HardConcreteGate"}
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    np.testing.assert_allclose(stripped(x), model(x), rtol=1e-5, atol=1e-6)


def test_chain_that_does_not_match_the_gates():
    inputs = keras.Input((3,))
    [log_alpha] = GateGenerator([4])(inputs)
    message = r"`log_alpha` of gate 'one'.*\(3,\).*shape \(4,\)"
    with pytest.raises(ValueError, match=message):
        HardConcreteGate(name="one")(inputs, log_alpha=log_alpha)
    with pytest.raises(ValueError, match=message):
        SharedGate(3, name="one")(inputs, log_alpha=log_alpha)


def test_a_generated_gate_outside_of_a_model_is_not_known():
    gate = HardConcreteGate(name="one")
    gate(np.ones((1, 3)), log_alpha=np.zeros(3, "float32"))
    with pytest.raises(ValueError, match="'one' has no `log_alpha`"):
        gate.test_gates()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"units": []}, "`units`.*units=\\[\\]"),
        ({"units": [3, 0]}, "`units`.*0"),
        ({"dependence": "sideways"}, "`dependence`.*'sideways'"),
        ({"inputs": 0}, "`inputs`.*inputs=0"),
        ({"droprate_init": 1.0}, "`droprate_init`.*=1.0"),
        ({"droprate_init": [0.1]}, "`droprate_init`.*2 layers"),
        ({"penalty": 3}, "`penalty`.*3"),
        ({"penalty": ExpectedCost([], [3, 4])}, "`penalty`.*\\[3, 4\\]"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GateGenerator(**{"units": [3, 2], **arguments})
