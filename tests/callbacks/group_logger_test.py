import keras
import numpy as np
import pytest

import l0keras
from l0keras import callbacks
from l0keras.optimizers import HSPG
from l0keras.optimizers import OptimizerGroups
from l0keras.optimizers import ProximalSGD
from l0keras.regularizers import WGSEF

SGD = keras.optimizers.SGD


def model():
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(10, activation="relu", name="first"),
            keras.layers.Dense(6, activation="relu", name="second"),
            keras.layers.Dense(3, name="last"),
        ]
    )


class Watch(keras.callbacks.Callback):
    """Counts by itself which units of the first layer have a weight."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def on_epoch_end(self, epoch, logs=None):
        kernel, bias = self.model.get_layer("first").get_weights()
        units = np.concatenate([kernel, bias[None]])
        self.kept.append(int(units.any(axis=0).sum()))


def fit(network, optimizer, epochs=3):
    rng = np.random.default_rng(0)
    network.compile(optimizer, "mse", jit_compile=False)
    watch = Watch()
    history = network.fit(
        rng.normal(size=(40, 8)).astype("float32"),
        rng.normal(size=(40, 3)).astype("float32"),
        batch_size=10,
        epochs=epochs,
        verbose=0,
        callbacks=[callbacks.GroupLogger(), watch],
    )
    return history.history, watch.kept


def proximal(network, include=None):
    groups = l0keras.weight_groups(network, include=include)
    return ProximalSGD(SGD(0.1), groups, WGSEF(0.3), strength=3.0)


@pytest.mark.parametrize("wrap", ["", "scaled", "grouped"])
def test_logs_how_many_groups_each_epoch_leaves(wrap):
    network = model()
    own = optimizer = proximal(network, "first" if wrap == "grouped" else None)
    if wrap == "scaled":
        optimizer = keras.optimizers.LossScaleOptimizer(own, 2.0)
    if wrap == "grouped":
        optimizer = OptimizerGroups([("first", own), (".", SGD(0.1))])
    logs, kept = fit(network, optimizer)
    assert logs["first_kept"] == kept
    assert 3 <= kept[-1] < 10
    assert [c["kept"] for c in own.zero_groups()] == [
        logs[f"{c['name']}_kept"][-1] for c in own.zero_groups()
    ]
    # No group is of what the last layer alone is made of.
    names = (
        {"first_kept", "second_kept"} if wrap != "grouped" else {"first_kept"}
    )
    assert {name for name in logs if name.endswith("_kept")} == names


def test_stages_of_an_optimizer_with_several():
    network = model()
    optimizer = HSPG(
        SGD(0.1),
        l0keras.weight_groups(network),
        WGSEF(0.3),
        strength=0.01,
        epsilon=0.9,
        switch_at=4,
        keep_at=8,
    )
    logs, kept = fit(network, optimizer)
    first, second, third = kept
    assert first == 10 and 3 <= third <= second
    assert logs["first_kept"] == kept
    assert logs["second_kept"][-1] <= 2


def test_other_optimizers_have_nothing_to_log():
    logs, _ = fit(model(), SGD(0.1))
    assert set(logs) == {"loss"}


def test_without_logs_or_before_the_first_step():
    network = model()
    network.compile(proximal(network), "mse")
    logger = callbacks.GroupLogger()
    logger.set_model(network)
    logger.on_epoch_end(0)
    logs = {}
    logger.on_epoch_end(0, logs)
    assert logs == {}
