import os
import re

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.graph.analyze import channel_graph
from l0keras.graph.groups import load_shapes
from l0keras.regularizers import ExpectedCost
from l0keras.targets import Target
from l0keras.targets import size_of
from l0keras.targets import surrogate
from l0keras.targets import surrogate_of
from l0keras.targets.latency import table

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written on TensorFlow",
)


def network(stream=8, inner=16, units=32):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(stream, 3, padding="same", name="stem")(inputs)
    y = layers.Conv2D(inner, 3, padding="same", use_bias=False, name="in")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(name="relu")(y)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = layers.Conv2D(stream, 1, name="out")(y)
    x = layers.Add(name="add")([x, y])
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(units, activation="relu", name="dense")(x)
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


def trained(model):
    """Gives a model biases, which no file has where they are zeros."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1, w.shape) for w in model.weights])
    return model


def graph_of(model):
    graph = channel_graph(model)
    load_shapes(graph)
    return graph


@pytest.mark.parametrize("of", ["params", "macs", "units"])
@pytest.mark.parametrize("where", [None, "^in|out"])
def test_counts_are_exact_at_all_widths(of, where):
    target = Target(of, 0.5, where=where)
    found = surrogate_of(network(), target)
    assert found.dense == size_of(network(), target)
    assert found.agreement == 1 and found.constant == 0
    for widths in ((8, 16, 32), (3, 5, 7)):
        small = network(*widths)
        assert found.size(graph_of(small)) == size_of(small, target)


@pytest.mark.parametrize("of", ["params", "macs", "units"])
def test_each_layer_has_one_of_its_own(of):
    target = Target(of, 0.5, each=True)
    found = surrogate_of(network(), target)
    small = network(3, 5, 7)
    sizes = {name: one.size(graph_of(small)) for name, one in found.items()}
    assert sizes == size_of(small, target)


def test_layers_that_are_not_known_are_constant():
    class Own(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

        def call(self, x):
            return keras.ops.cumsum(keras.ops.matmul(x, self.kernel), axis=-1)

    inputs = keras.Input((4,))
    x = layers.Dense(6)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(Own()(x)))
    found = surrogate_of(model, Target("params", 0.5))
    assert found.size(graph_of(model)) == model.count_params()


def test_units_that_go_together_are_one():
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    target = Target("units", 0.5)
    found = surrogate_of(model, target)
    assert found.constant == 0
    assert found.size(graph_of(model)) == size_of(model, target)


@on_tensorflow
@pytest.mark.parametrize(
    "quantization, within",
    [(None, 0.02), ("dynamic", 0.04), ("int8", 0.04)],
)
def test_bytes_are_about_those_of_files(tmp_path, quantization, within):
    images = np.random.default_rng(0).normal(size=(32, 8, 8, 3))
    images = images.astype("float32")
    data = images if quantization == "int8" else None
    target = Target("bytes", 0.5, quantization=quantization)
    dense, small = trained(network()), trained(network(4, 8, 16))
    found = surrogate_of(dense, target, data)
    path = tmp_path / "model.tflite"
    sizes = []
    for model in (dense, small):
        l0keras.export_tflite(model, path, quantization, data, check=False)
        sizes.append(os.path.getsize(path))
    assert found.dense == sizes[0]
    assert found.size(graph_of(dense)) == pytest.approx(sizes[0])
    assert found.size(graph_of(small)) == pytest.approx(sizes[1], rel=within)
    assert sizes[1] < 0.5 * sizes[0]


@pytest.fixture
def clock(monkeypatch):
    """A machine that takes 0.01 us for each MAC, and a file in 50 us."""

    def measure(pieces, quantization, progress):
        times = []
        for piece in pieces:
            own = {}
            for parts in piece.widths():
                macs = l0keras.count_macs(piece.model(parts))
                own[parts] = 0.01 * macs
            times.append(own)
        return 2.0, times

    monkeypatch.setattr(table, "measure", measure)
    monkeypatch.setattr(surrogate, "size_of", lambda *_: 50.0)


def test_latencies_come_from_the_table_and_agree_with_the_file(clock):
    model = network()
    found = surrogate_of(model, Target("latency", 0.5))
    macs = l0keras.count_macs(model)
    assert found.size(graph_of(model)) == pytest.approx(50)
    assert found.constant == pytest.approx(2)
    assert found.agreement == pytest.approx((2 + 0.01 * macs) / 50)
    small = network(4, 8, 16)
    share = l0keras.count_macs(small) / macs
    assert found.size(graph_of(small)) == pytest.approx(2 + 48 * share, rel=0.1)


def test_normalization_and_activations_take_no_time_of_their_own(clock):
    model = network()
    found = surrogate_of(model, Target("latency", 0.5))
    free = [n.name for n in graph_of(model).nodes if not found.arrays(n)]
    assert {"norm", "relu", "add", "flatten"} == set(free)


@pytest.mark.parametrize("of", ["params", "macs", "units", "latency"])
def test_gates_find_their_arrays(of, clock, monkeypatch):
    """As `GatedArrays` reads arrays, a small model's size is expected."""
    from l0keras.placement.gated_arrays import GatedArrays

    model = network()
    found = surrogate_of(model, Target(of, 0.5))
    gated = l0keras.sparsify(model)
    gates = l0keras.gates_of(gated)
    arrays = GatedArrays(gated, [gate.name for gate in gates])
    monkeypatch.setattr(arrays, "_arrays_of", found.arrays)
    cost = ExpectedCost(arrays.terms(), arrays.units)
    opened = [np.zeros(gate.test_gates().size, "float32") for gate in gates]
    wanted = {8: 3, 16: 5, 32: 7}
    for own in opened:
        own[: wanted[own.size]] = 1
    small = network(*wanted.values())
    # What does not depend on gates is a constant of the cost, or of ours.
    expected = float(cost.cost(opened)) + found.constant
    assert expected == pytest.approx(found.size(graph_of(small)), rel=1e-5)


def test_latencies_need_fixed_shapes(clock):
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    with pytest.raises(ValueError, match=re.escape("(None, None, None, 3)")):
        surrogate_of(keras.Model(inputs, x), Target("latency", 0.5))
