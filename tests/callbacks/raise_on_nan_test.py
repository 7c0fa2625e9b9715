import keras
import numpy as np
import pytest

from l0keras.callbacks import Checkpoint
from l0keras.callbacks import NonFiniteError
from l0keras.callbacks import RaiseOnNaN


def model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model


def test_stops_with_the_epoch_and_saves_nothing_more(tmp_path):
    net = model()
    checkpoint = Checkpoint(tmp_path / "c.npz")

    class Poison(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.layers[0].kernel.assign([[np.nan], [0.0]])

    x = np.ones((4, 2), "float32")
    with pytest.raises(NonFiniteError, match="loss is nan .* of epoch 3"):
        net.fit(
            x,
            x[:, :1],
            batch_size=2,
            epochs=5,
            callbacks=[RaiseOnNaN(), Poison(), checkpoint],
            verbose=0,
        )
    fresh = model()
    assert checkpoint.restore(fresh) == 2
    assert np.isfinite(fresh.get_weights()[0]).all()


def test_lets_a_finite_loss_pass():
    x = np.ones((4, 2), "float32")
    history = model().fit(x, x[:, :1], callbacks=[RaiseOnNaN()], verbose=0)
    assert len(history.epoch) == 1
