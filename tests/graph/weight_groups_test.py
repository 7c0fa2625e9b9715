import keras
import numpy as np
import pytest

import l0keras
from l0keras import WeightGroups
from l0keras import weight_groups
from l0keras.graph import channel_graph
from l0keras.graph.rules import BARRIER
from tests import networks
from tests.stripping.random_graph import random_graph

NETWORKS = (
    networks.chain,
    networks.residual,
    networks.residual_before_activation,
    networks.one_convolution_residual,
    networks.dense_concat,
    networks.concat_then_add,
    networks.squeeze_excite,
    networks.depthwise,
    networks.shared_layer,
    networks.two_outputs,
    networks.nested,
    networks.sequence,
    networks.transformer,
)

# JAX compiles all operations of each of them.
if keras.backend.backend() == "jax":
    NETWORKS = (networks.residual, networks.depthwise)


def close(model, groups, number):
    """Sets the weights of one group to 0."""
    by_path = {v.path: v for v in model.trainable_variables}
    for path, index in zip(groups.paths, groups.indices):
        variable = by_path[path]
        variable.assign(np.where(index == number, 0, variable.numpy()))


def check_zero_invariant(model, rng):
    """A channel whose weights are 0 is cut, and what is left is exact."""
    for group in l0keras.channel_groups(model):
        own = [g for g in weight_groups(model) if g.name == group.name]
        if not own:
            continue
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        (own,) = [g for g in weight_groups(copy) if g.name == group.name]
        number = int(rng.integers(own.size))
        close(copy, own, number)
        stripped = l0keras.strip(copy)
        x = networks.random_inputs(copy, rng)
        for got, expected in zip(
            networks.outputs_of(stripped, x), networks.outputs_of(copy, x)
        ):
            scale = max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * scale)
        gone = copy.count_params() - stripped.count_params()
        # Keras wants as many units of both directions.
        paired = group.name == "bidirectional"
        assert gone > 0 if paired else gone >= group.weights[number]


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_zero_can_be_cut(network):
    model = network()
    rng = np.random.default_rng(0)
    networks.randomize(model, rng)
    check_zero_invariant(model, rng)


def test_groups_have_each_weight_once():
    for seed in range(12 if keras.backend.backend() == "tensorflow" else 3):
        keras.utils.clear_session(free_memory=False)
        model, _ = random_graph(seed)
        taken = {}
        for group in l0keras.channel_groups(model):
            for variable, index in group.parts:
                mask = taken.setdefault(
                    variable.path, np.zeros(variable.shape, int)
                )
                mask += np.broadcast_to(index >= 0, mask.shape)
        assert all(np.all(mask <= 1) for mask in taken.values())


def test_every_kernel_makes_channels_of_some_group():
    for network in NETWORKS:
        keras.utils.clear_session(free_memory=False)
        model = network()
        graph = channel_graph(model)
        wanted = {
            node.layer.kernel.path
            for node in graph.nodes
            if node.rule is not BARRIER
            and isinstance(
                node.layer, (keras.layers.Dense, keras.layers.Conv2D)
            )
            and getattr(node.layer.activation, "__name__", "") != "softmax"
        }
        found = {
            variable.path
            for group in l0keras.channel_groups(model)
            for variable, _ in group.parts
        }
        assert wanted <= found


def residual_block():
    x = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(4, 3, padding="same", name="stem")(x)
    z = keras.layers.Conv2D(6, 3, padding="same", name="a")(y)
    z = keras.layers.BatchNormalization(name="norm")(z)
    z = keras.layers.ReLU()(z)
    z = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="b")(z)
    z = keras.layers.Add()([y, z])
    z = keras.layers.GlobalAveragePooling2D()(z)
    return keras.Model(x, keras.layers.Dense(2, name="logits")(z))


def test_channels_of_a_residual_block():
    stem, inner = weight_groups(residual_block())
    assert (stem.name, stem.size) == ("stem", 4)
    assert stem.paths == ["stem/kernel", "stem/bias", "b/kernel"]
    assert (inner.name, inner.size) == ("a", 6)
    assert inner.paths == ["a/kernel", "a/bias", "norm/gamma", "norm/beta"]
    shapes = [(3, 3, 4, 6), (6,), (6,), (6,)]
    np.testing.assert_array_equal(inner.weights(shapes), [3 * 3 * 4 + 3] * 6)


def test_units_of_an_lstm_have_all_their_gates():
    model = l0keras.models.lstm((5, 3), units=4, classes=2)
    (groups,) = weight_groups(model)
    assert groups.size == 4
    kernel = groups.indices[0]
    np.testing.assert_array_equal(kernel, [[0, 1, 2, 3] * 4])
    shapes = [(3, 16), (4, 16), (16,)]
    np.testing.assert_array_equal(groups.weights(shapes), [4 * 8] * 4)


@pytest.mark.parametrize(
    "by, sizes",
    [
        ("input_channel", [3, 4, 6, 4]),
        ("kernel_position", [27, 36, 54, 4]),
        ("weight", [108, 216, 216, 8]),
        ("layer", [4]),
    ],
)
def test_other_groups(by, sizes):
    groups = weight_groups(residual_block(), by)
    assert [group.size for group in groups] == sizes


def test_input_channels_are_rows_of_a_kernel():
    groups = weight_groups(residual_block(), "input_channel", include="^b$")
    (b,) = groups
    assert b.indices[0].shape == (1, 1, 6, 1)


def test_inner_products_and_spreading():
    rng = np.random.default_rng(0)
    index = np.array([[0], [2], [-1], [0]])
    groups = WeightGroups("g", 3, [("v", index), ("w", np.array([1, 1, -1]))])
    v, w = rng.normal(size=(2, 4, 5)), rng.normal(size=(2, 3))
    expected = [
        np.sum(v[0][[0, 3]] * v[1][[0, 3]]),
        np.sum(w[0][:2] * w[1][:2]),
        np.sum(v[0][1] * v[1][1]),
    ]
    got = groups.dot([v[0], w[0]], [v[1], w[1]])
    np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-5)
    first, second = groups.spread(keras.ops.convert_to_tensor([2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(first, [[2.0], [4.0], [1.0], [2.0]])
    np.testing.assert_array_equal(second, [3.0, 3.0, 1.0])
    np.testing.assert_array_equal(groups.weights([(4, 5), (3,)]), [10, 2, 5])


def test_configurations_come_back():
    for groups in weight_groups(residual_block()):
        copy = WeightGroups.from_config(groups.get_config())
        assert (copy.name, copy.size) == (groups.name, groups.size)
        assert copy.paths == groups.paths
        for one, other in zip(copy.indices, groups.indices):
            np.testing.assert_array_equal(one, other)


def test_what_does_not_train_is_in_no_group():
    model = residual_block()
    model.get_layer("norm").trainable = False
    _, inner = weight_groups(model)
    assert inner.paths == ["a/kernel", "a/bias"]
    model.trainable = False
    with pytest.raises(ValueError, match="must have groups by 'channel' whose"):
        weight_groups(model)


def test_clear_errors():
    model = residual_block()
    with pytest.raises(ValueError, match="Argument `by` must be one of"):
        weight_groups(model, "filter")
    with pytest.raises(ValueError, match=r"\['stem', 'a'\], include='fc'"):
        weight_groups(model, include="fc")
    with pytest.raises(ValueError, match="`include` must be a regular"):
        weight_groups(model, include="(")
    nothing = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="'sequential.*none, include=None"):
        weight_groups(nothing)
