import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests import networks


def group_made_by(model, name):
    (group,) = [g for g in l0keras.channel_groups(model) if name in g.makers]
    return group


@pytest.mark.parametrize("network", networks.ALL)
def test_a_gate_costs_what_its_channel_frees(network):
    """Closes one gate after the other and counts what strip leaves."""
    rng = np.random.default_rng(0)
    model = network()
    networks.randomize(model, rng)
    gated = l0keras.sparsify(model)
    # Not those inside of gated layers.
    gates = [x for x in gated.layers if isinstance(x, l0keras.HardConcreteGate)]
    assert gates
    for gate in gates:
        size = gate.log_alpha.shape[0]
        weights = np.broadcast_to(gate.group_size, (size,))
        for unit in rng.permutation(size)[:2]:
            log_alpha = np.full(size, 5.0)
            log_alpha[unit] = -5.0
            gate.log_alpha.assign(log_alpha)
            left = l0keras.strip(gated).count_params()
            assert model.count_params() - left == weights[unit]
        gate.log_alpha.assign(np.full(size, 5.0))


def test_a_residual_stream_is_one_group():
    model = networks.residual()
    stream = group_made_by(model, model.layers[1].name)
    convs = [x for x in model.layers if isinstance(x, layers.Conv2D)]
    assert stream.makers == [convs[0].name, convs[2].name, convs[4].name]
    dense = model.layers[-1].name
    assert stream.readers == [convs[1].name, convs[3].name, dense]
    assert stream.size == 6
    assert not stream.fixed
    # Three kernels' columns, three biases and norms, three kernels' rows.
    columns = 27 + 36 + 36 + 3 * (1 + 4)
    np.testing.assert_array_equal(stream.weights, columns + 36 + 36 + 4)


def test_printing_a_group_shows_the_chain_that_ties_it():
    inputs = keras.Input((4, 4, 2))
    a = layers.Conv2D(3, 1, name="a")(inputs)
    b = layers.Conv2D(3, 1, name="b")(inputs)
    x = layers.Add(name="sum")([layers.ReLU(name="relu")(a), b])
    x = layers.Conv2D(2, 1, name="reader")(x)
    text = str(l0keras.channel_groups(keras.Model(inputs, x))[0])
    assert text.splitlines() == [
        "3 channels of 'a', 'b', 8 weights each",
        "  'a' -> 'relu'",
        "  'relu', 'b' -> 'sum'",
        "  read by 'reader'",
    ]


def test_concat_then_add_is_one_group_of_all_channels():
    model = networks.concat_then_add()
    group = l0keras.channel_groups(model)[0]
    assert group.size == 7
    assert len(group.makers) == 3


def test_what_is_fixed_says_why():
    inputs = keras.Input((6,))
    a = layers.Dense(5, name="a")(inputs)
    a = layers.LayerNormalization(name="norm")(a)
    outputs = layers.Dense(3, name="b")(a)
    a, b = l0keras.channel_groups(keras.Model(inputs, outputs))
    assert len(a.fixed) == 1 and "'norm'" in a.fixed[0]
    assert b.fixed == ["an output of the model"]


def test_a_fixed_channel_leaves_the_others_free():
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="relu", name="a")(inputs)
    model = keras.Model(inputs, [x[:, 2:3], layers.Dense(3, name="b")(x)])
    free, fixed, _ = l0keras.channel_groups(model)
    assert (free.makers, free.size, free.fixed) == (["a"], 4, [])
    assert (fixed.makers, fixed.size) == (["a"], 1)
    assert fixed.fixed == ["an output of the model"]


def test_one_channel_for_all_is_fixed():
    """A map of attention that multiplies all channels goes with none."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, name="x")(inputs)
    mask = layers.Conv2D(1, 1, activation="sigmoid", name="mask")(inputs)
    x = layers.Conv2D(2, 1, name="reader")(layers.Multiply()([x, mask]))
    x, mask, _ = l0keras.channel_groups(keras.Model(inputs, x))
    assert not x.fixed and x.size == 3
    assert mask.fixed


def test_groups_are_found_in_a_model_that_is_not_touched():
    model = networks.nested()
    before = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    l0keras.channel_groups(model)
    after = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    assert before == after


def test_models_without_a_graph_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="must be Sequential or functional"):
        l0keras.channel_groups(Own())
