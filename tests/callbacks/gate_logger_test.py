import keras
import numpy as np
import pytest

import l0keras
from l0keras.callbacks import GateLogger
from l0keras.callbacks.gate_logger import named_gates
from tests.testing import sigmoid

LOG_ALPHA = [-4.0, -2.0, 0.0, 3.0]


def gated():
    inputs = keras.Input((4,))
    x = l0keras.HardConcreteGate(name="alone")(inputs)
    x = l0keras.layers.L0Dense(2, name="dense")(x)
    model = keras.Model(inputs, x)
    for gate in l0keras.gates_of(model):
        gate.log_alpha.assign(LOG_ALPHA)
    return model


def test_logs_open_and_expected_gates_of_each_layer():
    model = gated()
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    x = np.ones((2, 4), "float32")
    y = np.ones((2, 2), "float32")
    history = model.fit(x, y, callbacks=[GateLogger()], verbose=0).history
    # Closed at and below -log 11; expected by the closed form of the paper.
    expected = sigmoid(np.array(LOG_ALPHA) + 1.598597).sum()
    for name in ("alone", "dense"):
        assert history[f"{name}_open"] == [3]
        assert history[f"{name}_expected"] == pytest.approx([expected])


def test_logs_the_averaged_gates():
    model = gated()
    optimizer = keras.optimizers.SGD(1e3, use_ema=True, ema_momentum=0.0)
    model.compile(optimizer, "mse", jit_compile=False)
    x = np.ones((2, 4), "float32")
    y = np.ones((2, 2), "float32")

    class Close(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for gate in l0keras.gates_of(self.model):
                gate.log_alpha.assign([-5.0] * 4)

    history = model.fit(x, y, callbacks=[Close(), GateLogger()], verbose=0)
    assert history.history["alone_open"][0] > 0


def test_names_in_the_order_of_the_layers():
    model = gated()
    assert list(named_gates(model)) == ["alone", "dense"]
    assert list(named_gates(model).values()) == l0keras.gates_of(model)
    nested = keras.Sequential([keras.Input((4,)), model])
    assert list(named_gates(nested)) == ["alone", "dense"]
