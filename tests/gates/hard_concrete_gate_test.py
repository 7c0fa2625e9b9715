import math

import keras
import numpy as np
import pytest
from keras import ops

from l0keras import HardConcreteGate
from tests.testing import sigmoid
from tests.testing import train_steps


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def built(shape=(None, 5), **kwargs):
    gate = HardConcreteGate(**kwargs)
    gate.build(shape)
    return gate


def test_starts_at_the_drop_rate():
    for droprate in (0.2, 0.5, 0.9):
        gate = built((None, 20_000), droprate_init=droprate)
        log_alpha = numpy(gate.log_alpha)
        mean = math.log((1 - droprate) / droprate)
        assert log_alpha.mean() == pytest.approx(mean, abs=5e-4)
        assert log_alpha.std() == pytest.approx(0.01, rel=0.03)


def test_test_gates_multiply_the_last_axis():
    gate = built((None, 4, 3))
    gate.log_alpha.assign([-5.0, 0.5, 5.0])
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    ajar = 1.2 * sigmoid(0.5) - 0.1
    expected = x * np.array([0, ajar, 1])
    np.testing.assert_allclose(gate(x), expected, rtol=1e-6)
    np.testing.assert_allclose(gate(x, training=False), expected, rtol=1e-6)
    np.testing.assert_allclose(gate.test_gates(), [0, ajar, 1], rtol=1e-6)
    assert gate.count_open() == 2
    np.testing.assert_allclose(
        gate.prob_open(),
        sigmoid(np.array([-5, 0.5, 5]) + 2 / 3 * np.log(11)),
        rtol=1e-5,
    )


@pytest.mark.parametrize("training", [True, False])
def test_several_axes(training):
    gate = built((None, 4, 3, 2), axis=(-1, 1), log_alpha_limit=None)
    assert gate.log_alpha.shape == (4, 2)
    opened = np.random.default_rng(1).integers(0, 2, (4, 2))
    # So far out, even the samples are certain.
    gate.log_alpha.assign(100.0 * (2 * opened - 1))
    x = np.random.default_rng(0).normal(size=(5, 4, 3, 2)).astype("float32")
    expected = x * opened[None, :, None, :]
    np.testing.assert_array_equal(gate(x, training=training), expected)


def test_training_samples():
    gate = built((None, 2000), seed=1)
    gate.log_alpha.assign(np.zeros(2000))
    x = np.ones((3, 2000), "float32")
    first, second = numpy(gate(x, training=True)), numpy(gate(x, training=True))
    # One sample for the batch, another one the next time.
    assert (first == first[0]).all()
    assert np.mean(first[0] != second[0]) > 0.8
    for sample in (first[0], second[0]):
        assert np.mean(sample == 0) == pytest.approx(0.168, abs=0.04)
        assert np.mean(sample == 1) == pytest.approx(0.168, abs=0.04)


def test_training_samples_for_each_example():
    gate = built((None, 7, 500), sample_per="example", seed=1)
    gate.log_alpha.assign(np.zeros(500))
    y = numpy(gate(np.ones((3, 7, 500), "float32"), training=True))
    # The gated axis is the channel: all positions share one gate.
    assert (y == y[:, :1]).all()
    assert np.mean(y[0, 0] != y[1, 0]) > 0.8
    assert np.mean(y[1, 0] != y[2, 0]) > 0.8
    # At test time nothing depends on the example.
    y = numpy(gate(np.ones((3, 7, 500), "float32")))
    assert (y == y[0, 0]).all()


def test_a_seed_fixes_start_and_samples():
    x = np.ones((2, 50), "float32")

    def run(seed):
        gate = built((None, 50), seed=seed)
        return [numpy(gate(x, training=True)) for _ in range(2)]

    np.testing.assert_array_equal(run(4), run(4))
    assert (np.array(run(4)) != np.array(run(5))).any()
    assert (np.array(run(None)) != np.array(run(None))).any()


def test_frozen_gates_are_test_gates():
    gate = built((None, 30), l0=1.0)
    x = np.ones((2, 30), "float32")
    assert (numpy(gate(x, training=True)) != numpy(gate(x))).any()
    assert len(gate.losses) == 1
    gate.trainable = False
    np.testing.assert_array_equal(gate(x, training=True), gate(x))
    assert gate.trainable_variables == []
    assert gate.losses == []


def test_penalty_is_in_the_losses():
    gate = built((None, 3), l0=0.5, group_size=[1, 10, 100])
    gate.log_alpha.assign([0.0, 1.0, -1.0])
    (loss,) = gate.losses
    prob = sigmoid(np.array([0, 1, -1]) + 2 / 3 * np.log(11))
    assert float(loss) == pytest.approx(0.5 * prob @ [1, 10, 100], rel=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "bfloat16"])
def test_log_alpha_stays_float32(policy):
    gate = HardConcreteGate(dtype=policy)
    y = gate(ops.ones((2, 3), dtype=gate.compute_dtype), training=True)
    dtype = keras.backend.standardize_dtype
    assert dtype(gate.log_alpha.dtype) == "float32"
    assert dtype(gate.values(training=True).dtype) == "float32"
    assert dtype(y.dtype) == gate.compute_dtype
    # Half precision would have moved this one to the threshold.
    gate.log_alpha.assign(np.full(3, -math.log(11) + 1e-3))
    assert gate.count_open() == 3


@pytest.mark.parametrize("limit", [math.log(100), 1.0, None])
def test_log_alpha_is_kept_within_its_limit(limit):
    inputs = keras.Input((4,))
    gate = HardConcreteGate(l0=10.0, log_alpha_limit=limit)
    model = keras.Model(inputs, gate(inputs))
    x = np.zeros((8, 4), "float32")
    train_steps(
        model, x, x, steps=4, optimizer=keras.optimizers.SGD(learning_rate=5.0)
    )
    lowest = numpy(gate.log_alpha).min()
    if limit is None:
        assert lowest < -5
    else:
        assert lowest == pytest.approx(-limit)


def test_learns_which_inputs_matter():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 6)).astype("float32")
    y = x[:, :2] @ np.array([[1.0], [-1.0]], "float32")
    inputs = keras.Input((6,))
    gate = HardConcreteGate(l0=0.1, seed=1)
    outputs = keras.layers.Dense(1)(gate(inputs))
    model = keras.Model(inputs, outputs)
    train_steps(model, x, y, 150, optimizer=keras.optimizers.Adam(0.1))
    np.testing.assert_array_equal(
        gate.test_gates() > 0, [True, True, False, False, False, False]
    )
    assert gate.test_gates()[:2].min() > 0.9


def test_config_round_trip():
    arguments = {
        "l0": 0.1,
        "l2": 0.2,
        "axis": [1, 3],
        "droprate_init": 0.3,
        "sample_per": "example",
        "group_size": [[1, 2], [3, 4]],
        "temperature": 0.5,
        "gamma": -0.2,
        "zeta": 1.3,
        "log_alpha_limit": 2.0,
        "seed": 9,
        "name": "my_gate",
        "trainable": False,
    }
    gate = HardConcreteGate(**arguments)
    config = gate.get_config()
    for name, value in arguments.items():
        expected = tuple(value) if name == "axis" else value
        assert config[name] == expected, name
    assert HardConcreteGate.from_config(config).get_config() == config


@pytest.mark.parametrize(
    "arguments",
    [
        {"axis": (1, 2), "group_size": [[1, 2, 3], [4, 5, 6]]},
        {"group_size": np.array([1, 2, 3])},
        {"group_size": np.int64(7), "l0": np.float32(0.5)},
        {"sample_per": "example", "log_alpha_limit": None},
    ],
)
def test_saves_and_loads(tmp_path, arguments):
    inputs = keras.Input((2, 3))
    model = keras.Model(
        inputs, HardConcreteGate(**{"l0": 0.5, "seed": 1, **arguments})(inputs)
    )
    gate = model.layers[-1]
    gate.log_alpha.assign(gate.log_alpha - 1.0)
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))
    assert float(again.losses[0]) == float(model.losses[0])
    again_gate = again.layers[-1]
    assert again_gate.get_config() == gate.get_config()
    np.testing.assert_array_equal(again_gate.log_alpha, gate.log_alpha)


def test_passes_masks_on():
    gate = HardConcreteGate()
    x = keras.layers.Embedding(5, 3, mask_zero=True)(np.array([[1, 2, 0]]))
    y = gate(x)
    np.testing.assert_array_equal(
        keras.src.backend.get_keras_mask(y), [[True, True, False]]
    )


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"l0": -1}, "l0"),
        ({"l2": -1}, "l2"),
        ({"droprate_init": 0}, "droprate_init"),
        ({"droprate_init": 1}, "droprate_init"),
        ({"droprate_init": float("nan")}, "droprate_init"),
        ({"sample_per": "replica"}, "sample_per"),
        ({"group_size": -3}, "group_size"),
        ({"temperature": 0}, "temperature"),
        ({"gamma": 0}, "gamma"),
        ({"zeta": 1}, "zeta"),
        ({"log_alpha_limit": 0}, "log_alpha_limit"),
        ({"log_alpha_limit": -1.0}, "log_alpha_limit"),
    ],
)
def test_refuses_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=rf"`{name}`.*Received: {name}="):
        HardConcreteGate(**arguments)


@pytest.mark.parametrize(
    "axis, shape",
    [
        (0, (None, 3)),
        (-2, (None, 3)),
        (2, (None, 3)),
        (1, (2, None, 3)),
        ((1, -1), (None, 3)),
        ((), (None, 3)),
    ],
)
def test_refuses_axes_that_cannot_be_gated(axis, shape):
    with pytest.raises(ValueError, match="axis"):
        HardConcreteGate(axis=axis).build(shape)


def test_refuses_a_group_size_of_another_shape():
    with pytest.raises(ValueError, match="`group_size`.*Received"):
        HardConcreteGate(l0=1.0, group_size=[1, 2]).build((None, 3))
