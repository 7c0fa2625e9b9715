import keras
import numpy as np
import pytest

import l0keras
from l0keras.optimizers import HSPG
from l0keras.optimizers import DeepR
from l0keras.optimizers import ProximalSGD
from l0keras.optimizers import SoftDeepR
from l0keras.regularizers import WGSEF
from l0keras.regularizers import GroupLasso
from trainers.run import networks
from trainers.run.config import Config
from trainers.run.optimizers import make_optimizer
from trainers.run.optimizers import piecewise_constant

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


STEPS = 6


def grouped(method, **settings):
    """The optimizer of an mlp, whose groups are 300 and 100 hidden units."""
    settings = {"ema_momentum": 0.0, "epochs": 10, **settings}
    config = Config(model="mlp", method=method, **settings)
    model = networks.build(config, (4, 4, 1), 10, 100)
    optimizer = make_optimizer(config, STEPS, model)
    optimizer.build(model.trainable_variables)
    return optimizer, model


def per_group(optimizer):
    """The names of the groups, and what applies to each."""
    return {
        p.groups.name: (p.regularizer, p.strength) for p in optimizer._penalized
    }


def test_wgsef_has_proximal_and_then_half_space_steps():
    optimizer, model = grouped(
        "wgsef",
        k=(0.25,),
        group_lambda=(0.3,),
        epsilon=(0.5,),
        switch_at=0.3,
        optimizer="sgd",
        momentum=0.9,
        learning_rate=0.2,
    )
    assert isinstance(optimizer, HSPG)
    assert optimizer.switch_at == 3 * STEPS and optimizer.keep_at is None
    assert optimizer.epsilon == 0.5
    [inner] = optimizer.optimizers
    assert isinstance(inner, keras.optimizers.SGD) and inner.momentum == 0.9
    assert float(optimizer.learning_rate) == pytest.approx(0.2)
    assert not optimizer.use_ema
    found = per_group(optimizer)
    assert list(found) == ["fc1", "fc2"]
    for regularizer, strength in found.values():
        assert isinstance(regularizer, WGSEF) and regularizer.k == 0.25
        assert strength == 0.3
    asked = [(c["groups"], c["asked"]) for c in optimizer.zero_groups()]
    assert asked == [(300, 75), (100, 25)]
    names = [group.name for group in l0keras.weight_groups(model)]
    assert names == list(found)


@pytest.mark.parametrize(
    "epochs, share, switch", [(10, 0.0, 0), (15, 0.5, 8), (1, 0.4, 0)]
)
def test_the_switch_is_between_epochs(epochs, share, switch):
    optimizer, _ = grouped("wgsef", epochs=epochs, switch_at=share)
    assert type(optimizer) is HSPG
    assert optimizer.switch_at == switch * STEPS


def test_without_half_space_steps_there_is_no_second_stage():
    optimizer, _ = grouped("wgsef", switch_at=1.0, k=(0.5,))
    assert type(optimizer) is ProximalSGD
    assert {r.k for r, _ in per_group(optimizer).values()} == {0.5}


def test_group_lasso_with_and_without_half_space_steps():
    optimizer, _ = grouped("group_lasso", group_lambda=(0.2,))
    assert type(optimizer) is ProximalSGD
    for regularizer, strength in per_group(optimizer).values():
        assert isinstance(regularizer, GroupLasso) and strength == 0.2
    optimizer, _ = grouped("hspg", epsilon=(0.1, 0.9), switch_at=0.2)
    assert type(optimizer) is HSPG and optimizer.switch_at == 2 * STEPS
    assert optimizer._epsilons == [0.1, 0.9]
    for regularizer, strength in per_group(optimizer).values():
        assert isinstance(regularizer, GroupLasso) and strength == 0.01


def test_each_layer_has_groups_of_its_own():
    optimizer, _ = grouped(
        "wgsef", k=(0.5, 0.1), group_lambda=(0.2, 0.0), epsilon=(0.0, 0.7)
    )
    found = per_group(optimizer)
    assert {name: (r.k, s) for name, (r, s) in found.items()} == {
        "fc1": (0.5, 0.2),
        "fc2": (0.1, 0.0),
    }
    assert optimizer._epsilons == [0.0, 0.7]


@pytest.mark.parametrize("name", ["k", "group_lambda", "epsilon"])
def test_settings_for_other_groups_are_refused(name):
    values = (0.1, 0.2, 0.3)
    with pytest.raises(
        ValueError,
        match=f"`{name}` must be one number or one for each of the 2 groups "
        f"of weights: fc1, fc2. Received: {name}=0.1,0.2,0.3",
    ):
        grouped("wgsef", **{name: values})


def test_k_is_a_share_however_it_is_written():
    optimizer, _ = grouped("wgsef", k=(1,))
    assert [c["asked"] for c in optimizer.zero_groups()] == [300, 100]


@pytest.mark.parametrize(
    "method, settings",
    [
        ("wgsef", {"switch_at": 0.5}),
        ("wgsef", {"switch_at": 1.0}),
        ("hspg", {"switch_at": 0.5}),
        ("group_lasso", {}),
    ],
)
def test_exactly_k_stay_after_the_epochs(method, settings):
    optimizer, _ = grouped(method, finetune_epochs=2, k=(0.1, 0.5), **settings)
    assert optimizer.keep_at == 10 * STEPS
    assert [c["asked"] for c in optimizer.zero_groups()] == [30, 50]
    optimizer, _ = grouped(method, **settings)
    assert optimizer.keep_at is None and optimizer.keep is None


def test_averages_of_groups_are_those_of_the_outer_optimizer():
    optimizer, _ = grouped("wgsef", ema_momentum=0.9)
    assert optimizer.use_ema and optimizer.ema_momentum == 0.9
    assert not optimizer.optimizers[0].use_ema


@pytest.mark.parametrize("epochs, finetune", [(10, 0), (8, 2)])
def test_cosine_falls_to_zero_with_the_last_step(epochs, finetune):
    settings = {"lr_schedule": "cosine", "learning_rate": 0.4}
    optimizer, _ = grouped(
        "wgsef", epochs=epochs, finetune_epochs=finetune, **settings
    )
    schedule = optimizer.optimizers[0]._learning_rate
    last = 10 * STEPS
    expected = [
        0.2 * (1 + np.cos(np.pi * step / last)) for step in range(last + 1)
    ]
    found = rates(schedule, range(last + 1))
    assert found == pytest.approx(expected, abs=1e-6)
    assert found[0] == pytest.approx(0.4) and found[-1] == 0
    # Of any method, and the gates' own stays the same.
    config = Config(model="mlp", epochs=3, gate_learning_rate=0.01, **settings)
    gates, weights = make_optimizer(config, 5, None).optimizers
    assert float(gates.learning_rate) == pytest.approx(0.01)
    assert rates(weights._learning_rate, [0, 15]) == pytest.approx([0.4, 0])
