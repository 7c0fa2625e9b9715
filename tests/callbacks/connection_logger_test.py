import keras
import numpy as np
import pytest

from l0keras import callbacks
from l0keras.optimizers import DeepR
from l0keras.optimizers import OptimizerGroups
from l0keras.optimizers import SoftDeepR


def model():
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(10, activation="relu", name="first"),
            keras.layers.Dense(3, name="last"),
        ]
    )


def fit(network, optimizer, epochs=3):
    rng = np.random.default_rng(0)
    network.compile(optimizer, "mse")
    logger = callbacks.ConnectionLogger()
    history = network.fit(
        rng.normal(size=(40, 8)).astype("float32"),
        rng.normal(size=(40, 3)).astype("float32"),
        batch_size=10,
        epochs=epochs,
        verbose=0,
        callbacks=[logger],
    )
    return history.history


@pytest.mark.parametrize("grouped", [False, True])
def test_logs_shares_and_what_each_epoch_rewired(grouped):
    network = model()
    rewirer = DeepR(keras.optimizers.SGD(0.1), 0.4, l1=0.1, seed=1)
    optimizer = rewirer
    if grouped:
        optimizer = OptimizerGroups(
            [("kernel", rewirer), (".", keras.optimizers.SGD(0.1))]
        )
    logs = fit(network, optimizer)
    total = rewirer.rewired()
    for layer, count in (("first", 32), ("last", 12)):
        (path,) = [path for path in total if layer in path]
        size = np.prod(network.get_layer(layer).kernel.shape)
        assert logs[f"{path}_active"] == pytest.approx([count / size] * 3)
        rewired = logs[f"{path}_rewired"]
        assert len(rewired) == 3 and min(rewired) >= 0
        # Each epoch has its own, and together they are all.
        assert sum(rewired) == total[path] > 0


def test_soft_deep_r_has_no_fixed_share():
    network = model()
    optimizer = SoftDeepR(keras.optimizers.SGD(0.3), 0.5, l1=0.3, seed=1)
    logs = fit(network, optimizer, epochs=4)
    shares = [
        values for name, values in logs.items() if name.endswith("_active")
    ]
    assert len(shares) == 2
    assert any(len(set(values)) > 1 for values in shares)


def test_other_optimizers_have_nothing_to_log():
    assert set(fit(model(), keras.optimizers.SGD(0.1))) == {"loss"}
