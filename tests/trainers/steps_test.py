import keras
import pytest

import l0keras
from trainers import steps


def test_a_step_trains_as_often_as_it_says():
    model = keras.Sequential(
        [keras.Input((3,)), l0keras.layers.L0Dense(2, seed=1)]
    )
    step = steps.training_steps(model, 4, 3)
    for _ in range(2):
        step()
    assert int(model.optimizer.iterations) == 6


@pytest.mark.parametrize("name", steps.STEPS)
def test_compares_the_same_network(name):
    built = {kind: build() for kind, build in steps.STEPS[name].items()}
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
        generator = built[kind]().get_layer("gate_generator")
        assert generator.dependence == kind
