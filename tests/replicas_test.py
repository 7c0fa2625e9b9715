import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras.replicas import ReplicaSeedGenerator
from l0keras.replicas import replica_id

if keras.backend.backend() != "tensorflow":
    pytest.skip("tf.distribute needs TensorFlow", allow_module_level=True)

import tensorflow as tf  # noqa: E402


@pytest.fixture(scope="module")
def strategy():
    # The two logical CPUs of conftest.py.
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def per_replica(strategy, function):
    results = strategy.run(tf.function(function))
    return [
        value.numpy() for value in strategy.experimental_local_results(results)
    ]


def test_each_replica_gets_seeds_of_its_own(strategy):
    with strategy.scope():
        own = ReplicaSeedGenerator(seed=7)
        shared = keras.random.SeedGenerator(seed=7)
    plain = keras.random.SeedGenerator(seed=7)
    drawn = []
    for _ in range(3):
        first, second = per_replica(strategy, own.next)
        # What the plain generator does is why this class exists.
        same, too = per_replica(strategy, shared.next)
        np.testing.assert_array_equal(same, too)
        np.testing.assert_array_equal(first, ops.convert_to_numpy(plain.next()))
        assert not np.array_equal(first, second)
        drawn += [tuple(first), tuple(second)]
    assert len(set(drawn)) == 6


def test_without_replicas_it_is_the_plain_generator():
    own, plain = ReplicaSeedGenerator(3), keras.random.SeedGenerator(3)
    for _ in range(3):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(own.next()), ops.convert_to_numpy(plain.next())
        )
    assert replica_id() == 0


def test_in_the_scope_of_a_strategy_gates_can_be_sampled(strategy):
    with strategy.scope():
        assert replica_id() == 0
        gate = l0keras.HardConcreteGate(seed=1)
        outputs = gate(ops.ones((2, 50)), training=True)
    assert (ops.convert_to_numpy(outputs) != gate.test_gates()).any()


def test_samples_of_replicas_are_independent(strategy):
    with strategy.scope():
        gate = l0keras.HardConcreteGate(seed=1, log_alpha_limit=None)
        gate.build((None, 20_000))
    first, second = per_replica(strategy, lambda: gate.values(training=True))
    # The noise behind gates of the same log_alpha: equal means if they are
    # from the same distribution, no correlation if independent.
    assert abs(first.mean() - 0.5) < 0.02 and abs(second.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


SEEDS = (11, 12)


def gated():
    return keras.Sequential(
        [
            keras.Input((6,)),
            l0keras.layers.L0Dense(
                5, l0=0.02, l2=0.03, activation="relu", seed=SEEDS[0]
            ),
            l0keras.layers.L0Dense(3, l0=0.01, l2=0.05, seed=SEEDS[1]),
        ]
    )


def dependent():
    dense = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(7, activation="relu"),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dense(3),
        ]
    )
    return l0keras.sparsify(
        dense, l0=0.01, dependence="backward", penalty="joint", seed=SEEDS[0]
    )


def losses_of_replicas(model, seeds, x, y, monkeypatch):
    """The loss of each half of a batch with the noise of that replica."""
    losses = []
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for half in range(2):
        for gate, pair in zip(l0keras.gates_of(model), seeds, strict=True):
            seed = ops.convert_to_tensor(pair[half])
            monkeypatch.setattr(
                gate.seed_generator, "next", lambda ordered=True, s=seed: s
            )
        rows = slice(4 * half, 4 * half + 4)
        logits = model(x[rows], training=True)
        losses.append(cross_entropy(y[rows], logits) + sum(model.losses))
    return losses


@pytest.mark.parametrize("build", [gated, dependent])
def test_step_is_the_average_over_replicas(build, strategy, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 6)).astype("float32")
    y = rng.integers(0, 3, 8)
    with strategy.scope():
        model = build()
        model.compile(
            keras.optimizers.SGD(0.5),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    with strategy.scope():
        copies = [
            ReplicaSeedGenerator(gate.seed) for gate in l0keras.gates_of(model)
        ]
    seeds = [per_replica(strategy, copy.next) for copy in copies]
    reference = build()
    reference.set_weights(model.get_weights())

    with tf.GradientTape() as tape:
        losses = losses_of_replicas(reference, seeds, x, y, monkeypatch)
        loss = sum(losses) / 2
    variables = [v.value for v in reference.trainable_variables]
    gradients = tape.gradient(loss, variables)
    expected = [v - 0.5 * g for v, g in zip(variables, gradients)]
    # The two halves must differ in noise, or the test would say nothing.
    assert abs(float(losses[0] - losses[1])) > 1e-3

    history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert history.history["loss"] == pytest.approx([float(loss)], rel=1e-5)
    for variable, value in zip(model.trainable_variables, expected):
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable), value, rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("build", [gated, dependent])
def test_evaluation_is_that_of_one_device(build, strategy):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(21, 6)).astype("float32")
    y = rng.integers(0, 3, 21)
    results = []
    weights = build().get_weights()
    for scope in (strategy, tf.distribute.get_strategy()):
        with scope.scope():
            model = build()
            model.set_weights(weights)
            model.compile(
                loss=keras.losses.SparseCategoricalCrossentropy(
                    from_logits=True
                ),
                metrics=["accuracy"],
                jit_compile=False,
            )
        # The last batch has two examples for one replica, one for the other.
        results.append(model.evaluate(x, y, batch_size=6, verbose=0))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)
