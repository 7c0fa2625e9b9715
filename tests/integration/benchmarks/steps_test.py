import keras
import pytest

import l0keras
from trainers.benchmarks import steps


def test_a_step_trains_as_often_as_it_says():
    model = keras.Sequential(
        [keras.Input((3,)), l0keras.layers.L0Dense(2, seed=1)]
    )
    step = steps.training_steps(model, keras.optimizers.Adam(), 4, 3)
    for _ in range(2):
        step()
    assert int(model.optimizer.iterations) == 6


@pytest.mark.parametrize(
    "name",
    ["lenet5", "mlp", pytest.param("resnet56", marks=pytest.mark.slow)],
)
def test_compares_the_same_network(name):
    built = {kind: build() for kind, (build, _) in steps.STEPS[name].items()}
    gates = {
        kind: len(l0keras.gates_of(model)) for kind, model in built.items()
    }
    assert gates.pop("plain") == 0
    assert len(set(gates.values())) == 1 and min(gates.values()) > 0
    outputs = {model.output_shape for model in built.values()}
    assert len(outputs) == 1


def test_resnet56_compares_dependence():
    built = steps.STEPS["resnet56"]
    assert list(built) == ["independent", "forward", "backward", "plain"]
    for kind in ("forward", "backward"):
        generator = built[kind][0]().get_layer("gate_generator")
        assert generator.dependence == kind


def test_deep_r_has_the_same_optimizer_inside():
    _, plain = steps.STEPS["deep_r"]["sgd"]
    for kind, budget in (("deep_r", "layer"), ("deep_r_global", "global")):
        build, make = steps.STEPS["deep_r"][kind]
        optimizer = make()
        (inner,) = optimizer.optimizers
        assert inner.learning_rate == plain().learning_rate
        assert type(inner) is type(plain())
        assert optimizer.budget == budget
        assert build().count_params() == 266_610


@pytest.mark.parametrize("name", ["sparse_dense", "sparse_dense_adam"])
def test_sparse_storage_is_compared_with_the_full_one(name):
    counts = {
        kind: build().trainable_variables[0].shape
        for kind, (build, _) in steps.STEPS[name].items()
    }
    few = (round(0.01 * 8192**2),)
    assert counts == {
        "dense": (8192, 8192),
        "sparse": few,
        "sparse_deep_r": few,
    }
