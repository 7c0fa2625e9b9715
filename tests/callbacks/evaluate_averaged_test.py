import keras
import numpy as np
import pytest
from keras import ops

from l0keras.callbacks import EvaluateAveraged
from l0keras.callbacks import averaged_weights


class Record(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.before, self.after, self.expected = [], [], []

    def on_epoch_end(self, epoch, logs=None):
        x, y = self.data
        self.after.append(np.array(self.model.get_weights()[0]))
        with averaged_weights(self.model):
            output = ops.convert_to_numpy(self.model(x))
        self.expected.append(float(np.mean((output - y) ** 2)))

    def on_train_batch_end(self, batch, logs=None):
        self.last = np.array(self.model.get_weights()[0])


def test_validation_is_on_averages_and_training_goes_on_untouched():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3)).astype("float32")
    y = rng.normal(size=(8, 2)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD(0.3, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "mse", jit_compile=False)
    record = Record()
    record.data = x, y
    history = model.fit(
        x,
        y,
        epochs=3,
        batch_size=4,
        validation_data=(x, y),
        callbacks=[EvaluateAveraged(), record],
        verbose=0,
    )
    assert history.history["val_loss"] == pytest.approx(
        record.expected, rel=1e-5
    )
    np.testing.assert_array_equal(record.after[-1], record.last)
