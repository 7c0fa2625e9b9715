import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras import HardConcreteGate
from l0keras import models
from l0keras.placement.gated_arrays import GatedArrays
from l0keras.regularizers import ExpectedCost
from tests import networks

NETWORKS = {
    "resnet": lambda: models.resnet(8, 4, input_shape=(8, 8, 3)),
    "densenet": lambda: models.densenet(10, 4, input_shape=(8, 8, 3)),
    "mobilenet": lambda: models.mobilenet_v1(0.1, input_shape=(8, 8, 3)),
    "lenet5": lambda: models.lenet5(variant="pytorch"),
    "chain": networks.chain,
    "residual": networks.residual,
    "residual_before_activation": networks.residual_before_activation,
    "concat_then_add": networks.concat_then_add,
    "concat_with_input": networks.concat_with_input,
    "squeeze_excite": networks.squeeze_excite,
    "depthwise": networks.depthwise,
    "shared_layer": networks.shared_layer,
    "two_outputs": networks.two_outputs,
    "nested": networks.nested,
    "attention_by_hand": networks.attention_by_hand,
    "fixed_channels": networks.fixed_channels,
}


def sampled(network, rng):
    """A sparsified network whose test gates are 0 or 1, by chance."""
    gated = l0keras.sparsify(
        NETWORKS[network](), l0=1.0, penalty="joint", seed=0
    )
    for weight in gated.get_layer("gate_generator").trainable_weights:
        shut = rng.random(weight.shape) < 0.4
        # One has to stay, for strip never cuts the last one.
        shut[rng.integers(len(shut))] = False
        weight.assign(np.where(shut, -4.5, 4.5))
    return gated


def cost_of_open_gates(gated, cost):
    names = generated_names(gated)
    arrays = GatedArrays(gated, names, cost)
    penalty = ExpectedCost(arrays.terms(), arrays.units)
    gates = [gated.get_layer(name).test_gates() for name in names]
    assert [len(gate) for gate in gates] == arrays.units
    return float(penalty.cost([np.float32(gate > 0) for gate in gates]))


def generated_names(gated):
    return [gate.name for gate in l0keras.gates_of(gated)]


@pytest.mark.parametrize("network", NETWORKS)
def test_open_gates_cost_what_strip_leaves(network):
    """Against parameters and multiply-accumulates of the small model."""
    gated = sampled(network, np.random.default_rng(1))
    stripped = l0keras.strip(gated)
    assert stripped.count_params() < gated.count_params()
    params = cost_of_open_gates(gated, "params")
    assert params == pytest.approx(stripped.count_params(), rel=1e-6)
    macs = cost_of_open_gates(gated, "macs")
    assert macs == pytest.approx(l0keras.count_macs(stripped), rel=1e-6)


def gate(x, name):
    return HardConcreteGate(name=name)(x)


def test_only_a_sum_of_gated_tensors_is_gated():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(5, 3, padding="same", use_bias=False)(inputs)
    x = gate(x, "stem")
    y = layers.Conv2D(5, 3, padding="same", use_bias=False)(x)
    stream = layers.Add()([x, y])
    outputs = layers.Conv2D(2, 3, use_bias=False)(stream)
    arrays = GatedArrays(keras.Model(inputs, outputs), ["stem"])
    assert arrays.terms() == [
        # Of the first convolution the gate closes the outputs, of the second
        # the inputs; the third reads a sum that is never closed.
        (9, [(3, {}), (0, {0: 1})]),
        (9, [(0, {0: 1}), (5, {})]),
        (9, [(5, {}), (2, {})]),
    ]


def test_flattened_channels_are_each_at_several_positions():
    inputs = keras.Input((2, 3, 4))
    x = gate(layers.Conv2D(5, 1)(inputs), "gate")
    outputs = layers.Dense(7, use_bias=False)(layers.Flatten()(x))
    arrays = GatedArrays(keras.Model(inputs, outputs), ["gate"])
    assert arrays.terms()[-1] == (1, [(0, {0: 6}), (7, {})])


def test_gates_that_do_not_count_are_open():
    inputs = keras.Input((4,))
    x = gate(layers.Dense(5, use_bias=False)(inputs), "one")
    x = gate(layers.Dense(6, use_bias=False)(x), "two")
    model = keras.Model(inputs, layers.Dense(1, use_bias=False)(x))
    assert GatedArrays(model, ["two"]).terms() == [
        (1, [(4, {}), (5, {})]),
        (1, [(5, {}), (0, {0: 1})]),
        (1, [(0, {0: 1}), (1, {})]),
    ]


def test_reference_form_takes_the_gated_layer_before():
    model = models.resnet(8, 4, input_shape=(8, 8, 3), gates="paper")
    names = generated_names(model)
    arrays = GatedArrays(model, names)
    assert arrays.reference_terms() == [
        (9, [(3, {}), (0, {0: 1})]),
        (9, [(0, {0: 1}), (0, {1: 1})]),
        (9, [(0, {1: 1}), (0, {2: 1})]),
        (9, [(0, {2: 1}), (0, {3: 1})]),
    ]


def test_reference_form_needs_layers():
    inputs = keras.Input((4,))
    outputs = layers.Dense(5)(gate(inputs, "pixels"))
    arrays = GatedArrays(keras.Model(inputs, outputs), ["pixels"])
    with pytest.raises(ValueError, match="layer.*before each gate.*'pixels'"):
        arrays.reference_terms()


def test_unknown_cost():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5)])
    with pytest.raises(ValueError, match="`cost`.*'params', 'macs'.*'flops'"):
        GatedArrays(model, [], "flops")
