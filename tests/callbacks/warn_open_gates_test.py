import warnings

import keras
import numpy as np
import pytest

import l0keras
from l0keras.callbacks import WarnOpenGates

CLOSED = -np.log(11.0)


def gated(size=20, **kwargs):
    gate = l0keras.HardConcreteGate(droprate_init=0.05, **kwargs)
    return keras.Sequential([keras.Input((size,)), gate]), gate


def walk(positions, callback=None, steps=100, epochs=2):
    """Lets gates be at given places after equal shares of a training."""
    model, gate = gated(len(positions[0]))
    callback = callback or WarnOpenGates()
    callback.set_params({"epochs": epochs, "steps": steps // epochs})
    gate.log_alpha.assign(positions[0])
    callback.set_model(model)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback.on_train_begin()
    for epoch in range(epochs):
        for batch in range(steps // epochs):
            share = (epoch * steps // epochs + batch + 1) / steps
            place = int(share * (len(positions) - 1))
            gate.log_alpha.assign(positions[place])
            callback.on_train_batch_end(batch)
        callback.on_epoch_end(epoch)
    callback.on_train_end()


def test_steady_gates_had_too_few_steps():
    # 0.01 a step from 3.0, so 2.0 + 2.3979 are left after 100 steps.
    way = [np.full(20, 3.0 - 0.05 * i) for i in range(21)]
    expected = (
        r"100 steps with all 20 gates open\. There were too few steps .* went "
        r"down by 1 and has 4\.4 left to go, about 440 further steps .*\. "
        r"Change `epochs`"
    )
    with pytest.warns(UserWarning, match=expected):
        walk(way)


def test_a_few_steady_gates_are_enough():
    way = np.full((21, 20), 3.0)
    way[:, 7] -= 0.05 * np.arange(21)
    with pytest.warns(UserWarning, match="too few steps"):
        walk(way)


@pytest.mark.parametrize("kind", ["to and fro", "up", "still", "back"])
def test_others_have_too_low_a_price(kind):
    rng = np.random.default_rng(0)
    way = np.full((21, 20), 2.0)
    if kind == "to and fro":
        way += 0.1 * rng.normal(size=way.shape)
    elif kind == "up":
        way += np.arange(21)[:, None] * 0.05
    elif kind == "back":
        # Down at first, and then what they earn brings them back.
        way -= np.minimum(np.arange(21), 20 - np.arange(21))[:, None] * 0.1
    with pytest.warns(UserWarning, match="price is too low.*Change `l0`"):
        walk(way)


def test_a_speed_that_is_next_to_nothing_is_a_low_price():
    way = [np.full(20, 3.0 - 1e-5 * i) for i in range(21)]
    with pytest.warns(UserWarning, match="price is too low"):
        walk(way)


def test_programs_say_what_their_users_may_change():
    callback = WarnOpenGates("--epochs", "--lambdas")
    with pytest.warns(UserWarning, match=r"Change --epochs\."):
        walk([np.full(4, 3.0 - 0.05 * i) for i in range(21)], callback)
    with pytest.warns(UserWarning, match=r"Change --lambdas\."):
        walk([np.full(4, 3.0)] * 21, callback)


def test_one_closed_gate_is_enough_for_silence():
    way = np.full((21, 20), 3.0)
    way[-1, 3] = CLOSED - 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        walk(way)


def fit(model, optimizer="adam", **kwargs):
    size = model.input_shape[-1]
    model.compile(optimizer, "mse", jit_compile=False)
    # Of zeros no gate earns anything.
    x = np.zeros((8, size), "float32")
    model.fit(
        *(x, x[:, : model.output_shape[-1]]),
        batch_size=2,
        verbose=0,
        callbacks=[WarnOpenGates()],
        **kwargs,
    )


def test_in_a_training():
    model, gate = gated(4, l0=1.0)
    with pytest.warns(UserWarning, match="after 8 steps .* too few steps"):
        fit(model, keras.optimizers.Adam(1e-3), epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, keras.optimizers.Adam(1.0), epochs=4)
    assert gate.count_open() == 0


def test_the_end_counts_with_averaged_weights():
    model, gate = gated(4, l0=1.0)
    # They arrive, and their averages do not.
    optimizer = keras.optimizers.Adam(1.0, use_ema=True, ema_momentum=0.99)
    with warnings.catch_warnings():
        # Keras's own, when it puts averages in the place of the weights.
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.warns(UserWarning, match="too few steps"):
            fit(model, optimizer, epochs=4)
    assert gate.count_open() == 4


def test_generated_gates_are_looked_at():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(2),
        ]
    )
    chained = l0keras.sparsify(model, l0=0.0, dependence="forward")
    with pytest.warns(UserWarning, match="all 8 gates open"):
        fit(chained, keras.optimizers.SGD(0.0))


def test_without_gates_that_train_there_is_nothing_to_say():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    frozen, gate = gated(4)
    gate.trainable = False
    frozen = keras.Sequential([frozen, keras.layers.Dense(4)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(plain)
        fit(frozen)
