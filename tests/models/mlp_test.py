import keras
import pytest
from keras import ops

import l0keras
from l0keras import models


def test_plain_has_the_papers_parameters():
    model = models.mlp()
    assert model.count_params() == 266_610
    assert l0keras.gates_of(model) == []
    assert model.output_shape == (None, 10)
    assert model.get_layer("fc3").activation is keras.activations.linear


def test_gated_has_the_papers_gates_and_drop_rates():
    model = models.mlp(gates="paper", seed=0)
    gates = l0keras.gates_of(model)
    assert [gate.log_alpha.shape[0] for gate in gates] == [784, 300, 100]
    assert [gate.group_size for gate in gates] == [300, 100, 10]
    means = [float(ops.mean(gate.log_alpha)) for gate in gates]
    # log(0.8 / 0.2), then log(0.5 / 0.5).
    assert means == pytest.approx([1.3863, 0, 0], abs=0.005)


def test_hidden_sizes_and_input_of_any_rank():
    model = models.mlp(
        (12,), classes=3, hidden=(7,), gates="paper", l0=(0.5, 0.25)
    )
    gates = l0keras.gates_of(model)
    assert [gate.log_alpha.shape[0] for gate in gates] == [12, 7]
    assert [gate.l0 for gate in gates] == [0.5, 0.25]
    assert model.get_layer("fc2").units == 3


def test_refuses_a_wrong_number_of_prices():
    with pytest.raises(ValueError, match="`l0` must be one number or one for"):
        models.mlp(gates="paper", l0=(0.1, 0.1))


@pytest.mark.parametrize(
    "network", [models.mlp, models.lenet5, models.wide_resnet]
)
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"gates": "all"}, "`gates` must be None.*or 'paper'.*gates='all'"),
        ({"gates": True}, "`gates` must be None.*or 'paper'.*gates=True"),
        ({"l0": 0.1}, "`l0` must be 0 without gates.*l0=0.1, gates=None"),
        ({"l0": (0, 0.1)}, "`l0` must be 0 without gates.*l0=.0, 0.1., g"),
    ],
)
def test_refuses_other_gates_and_a_price_without_any(
    network, arguments, message
):
    with pytest.raises(ValueError, match=message):
        network(**arguments)
