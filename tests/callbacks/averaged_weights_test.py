import keras
import numpy as np
from keras import ops

from l0keras.callbacks import averaged_weights


def weights(model):
    return [ops.convert_to_numpy(w).copy() for w in model.trainable_variables]


class Record(keras.callbacks.Callback):
    """The weights after each step, which need steps of their own."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(weights(self.model))


def trained(**kwargs):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD(0.1, **kwargs)
    model.compile(optimizer, "mse", jit_compile=False)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3)).astype("float32")
    y = rng.normal(size=(8, 2)).astype("float32")
    record = Record()
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=[record])
    # `fit` ends by overwriting the weights with the averages.
    for variable, value in zip(model.trainable_variables, record.steps[-1]):
        variable.assign(value)
    return model, record.steps


def test_are_the_moving_average_of_all_steps_and_leave_nothing_behind():
    model, steps = trained(use_ema=True, ema_momentum=0.75)
    expected = steps[0]
    for step in steps[1:]:
        expected = [0.75 * a + 0.25 * w for a, w in zip(expected, step)]
    before = weights(model)
    with averaged_weights(model):
        for value, average in zip(weights(model), expected, strict=True):
            np.testing.assert_allclose(value, average, rtol=1e-5, atol=1e-6)
        assert not np.allclose(weights(model)[0], before[0])
    for value, own in zip(weights(model), before, strict=True):
        np.testing.assert_array_equal(value, own)


def test_come_back_after_an_error():
    model, _ = trained(use_ema=True, ema_momentum=0.75)
    before = weights(model)
    try:
        with averaged_weights(model):
            raise KeyError
    except KeyError:
        pass
    np.testing.assert_array_equal(weights(model)[0], before[0])


def test_without_averages_nothing_happens():
    model, _ = trained()
    before = weights(model)
    with averaged_weights(model):
        np.testing.assert_array_equal(weights(model)[0], before[0])


def test_before_the_first_step_nothing_happens():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), "mse")
    model.optimizer.build(model.trainable_variables)
    before = weights(model)
    with averaged_weights(model):
        np.testing.assert_array_equal(weights(model)[0], before[0])
