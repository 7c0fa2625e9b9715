import keras
import numpy as np
import pytest

from l0keras.optimizers import DeepR
from l0keras.optimizers import SoftDeepR
from trainers import networks
from trainers.config import Config
from trainers.optimizers import make_optimizer
from trainers.optimizers import piecewise_constant

SGD = {"optimizer": "sgd", "ema_momentum": 0.0, "lr_boundaries": (2.0, 3.0)}


def rates(schedule, steps):
    return [float(schedule(np.int64(step))) for step in steps]


def test_rate_falls_with_the_first_step_after_an_epoch():
    schedule = piecewise_constant(0.1, 0.5, (2.0, 3.0), steps=5)
    found = rates(schedule, range(20))
    expected = [0.1] * 10 + [0.05] * 5 + [0.025] * 5
    assert found == pytest.approx(expected)


def test_rate_without_boundaries_is_a_number():
    assert piecewise_constant(0.1, 0.5, (), 5) == 0.1
    assert piecewise_constant(0.1, 1.0, (2.0,), 5) == 0.1


def test_settings_reach_sgd():
    config = Config(
        learning_rate=0.3, momentum=0.9, nesterov=True, lr_decay=0.2, **SGD
    )
    optimizer = make_optimizer(config, 4, None)
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
    assert not optimizer.use_ema
    found = rates(optimizer._learning_rate, [7, 8, 11, 12])
    assert found == pytest.approx([0.3, 0.06, 0.06, 0.012])


def test_adam_as_ever():
    optimizer = make_optimizer(Config(ema_momentum=0.9), 4, None)
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert float(optimizer.learning_rate) == pytest.approx(1e-3)
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.9)


def test_gates_have_an_optimizer_of_their_own():
    config = Config(
        model="mlp",
        learning_rate=0.1,
        momentum=0.9,
        lr_decay=0.1,
        gate_learning_rate=0.01,
        gate_lr_decay=0.5,
        **SGD,
    )
    model = networks.build(config, (4, 4, 1), 10, 100)
    optimizer = make_optimizer(config, 4, None)
    optimizer.build(model.trainable_variables)
    gates, weights = optimizer.optimizers
    assert isinstance(gates, keras.optimizers.Adam)
    assert isinstance(weights, keras.optimizers.SGD)
    assert weights.momentum == 0.9
    assert [v.name for v in gates._trainable_variables] == ["log_alpha"] * 3
    assert len(weights._trainable_variables) == 6
    assert rates(gates._learning_rate, [7, 8]) == pytest.approx([0.01, 0.005])
    assert rates(weights._learning_rate, [7, 8]) == pytest.approx([0.1, 0.01])


def test_steps_of_gates_are_those_of_adam_and_of_weights_those_of_sgd():
    config = Config(
        model="mlp",
        optimizer="sgd",
        ema_momentum=0.0,
        learning_rate=0.5,
        gate_learning_rate=0.01,
    )
    model = networks.build(config, (4, 4, 1), 10, 100)
    optimizer = make_optimizer(config, 4, None)
    variables = model.trainable_variables
    before = [variable.numpy() for variable in variables]
    optimizer.apply(
        [0.02 * keras.ops.ones_like(v) for v in variables], variables
    )
    for variable, old in zip(variables, before):
        # The first step of Adam is its learning rate, whatever the gradient.
        step = 0.01
        np.testing.assert_allclose(
            old - variable.numpy(), step, rtol=1e-2, err_msg=variable.path
        )
    optimizer.apply(
        [0.04 * keras.ops.ones_like(v) for v in variables], variables
    )
    for variable, old in zip(variables, before):
        step = 0.02 if "log_alpha" in variable.path else 0.03
        assert abs(np.mean(old - variable.numpy()) - step) < 2e-3


SPARSE = {"model": "mlp", "use_bias": False, "ema_momentum": 0.0}


def sparse(method, **settings):
    config = Config(method=method, **SPARSE, **settings)
    model = networks.build(config, (4, 4, 1), 10, 100)
    optimizer = make_optimizer(config, 4, model)
    optimizer.build(model.trainable_variables)
    counts = [np.count_nonzero(v) for v in model.trainable_variables]
    return optimizer, counts


def test_each_kernel_has_a_connectivity_of_its_own():
    shares = (0.1, 0.02, 0.3)
    optimizer, counts = sparse("deep_r", connectivity=shares, l1=0.5)
    assert isinstance(optimizer, DeepR) and optimizer.l1 == 0.5
    assert counts == [0.1 * 16 * 300, 0.02 * 300 * 100, 0.3 * 1000]
    _, counts = sparse("static", connectivity=shares)
    assert counts == [480, 600, 300]


def test_connectivities_for_other_kernels_are_refused():
    with pytest.raises(
        ValueError, match="`connectivity`.*3 kernels: .*fc1/kernel.*0.1,0.2"
    ):
        sparse("deep_r", connectivity=(0.1, 0.2))


def test_other_settings_reach_deep_r():
    optimizer, _ = sparse(
        "deep_r", temperature=0.25, budget="global", connectivity=(0.1,)
    )
    assert (optimizer.temperature, optimizer.budget) == (0.25, "global")
    assert isinstance(optimizer.optimizers[0], keras.optimizers.Adam)


def test_soft_deep_r_has_a_temperature_without_being_given_one():
    optimizer, _ = sparse("soft_deep_r")
    assert isinstance(optimizer, SoftDeepR) and optimizer.temperature is None
    optimizer, _ = sparse("soft_deep_r", temperature=0.1)
    assert optimizer.temperature == 0.1


def test_shrinkage_starts_with_all_connections():
    optimizer, counts = sparse("l1", l1=0.3)
    assert counts == [4800, 30_000, 1000] and optimizer.l1 == 0.3


def test_averages_are_those_of_the_outer_optimizer():
    config = Config(model="mlp", method="deep_r", ema_momentum=0.9)
    model = networks.build(config, (4, 4, 1), 10, 100)
    optimizer = make_optimizer(config, 4, model)
    assert optimizer.use_ema and optimizer.ema_momentum == 0.9
    assert not optimizer.optimizers[0].use_ema
