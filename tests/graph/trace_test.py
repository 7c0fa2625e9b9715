import keras
import numpy as np
from keras import layers

from l0keras import HardConcreteGate
from l0keras.graph.trace import trace
from l0keras.layers import L0Dense


def names(graph):
    return [node.name for node in graph.nodes]


def test_nodes_come_after_those_they_read_from():
    inputs = keras.Input((4,))
    a = layers.Dense(3, name="a")(inputs)
    b = layers.Dense(3, name="b")(a)
    c = layers.Dense(3, name="c")(a)
    outputs = layers.Add(name="sum")([a, c, b])
    graph = trace(keras.Model(inputs, outputs))
    order = names(graph)
    assert sorted(order) == ["a", "b", "c", "sum"]
    assert order[0] == "a" and order[-1] == "sum"
    made_by = {node.name: node for node in graph.nodes}
    read = [value.producer.name for value in made_by["sum"].inputs]
    assert read == ["a", "c", "b"]
    readers = {(n.name, i) for n, i in made_by["a"].output.readers}
    assert readers == {("b", 0), ("c", 0), ("sum", 0)}
    assert [v.is_output for v in graph.values] == [False] * 4 + [True]


def test_a_deep_chain_needs_no_deep_stack():
    x = inputs = keras.Input((2,))
    for _ in range(300):
        x = layers.Identity()(x)
    assert len(trace(keras.Model(inputs, x)).nodes) == 300


def test_the_model_gets_no_new_calls():
    inputs = keras.Input((4,))
    layer = L0Dense(3)
    model = keras.Model(inputs, HardConcreteGate()(layer(inputs)))
    before = len(layer._inbound_nodes), len(layer._outbound_nodes)
    trace(model)
    assert (len(layer._inbound_nodes), len(layer._outbound_nodes)) == before


def test_gates_are_baked():
    inputs = keras.Input((4, 3))
    dense = L0Dense(3, name="dense")
    gate = HardConcreteGate(axis=(1, 2), name="gate")
    model = keras.Model(inputs, gate(dense(inputs)))
    dense.gate.log_alpha.assign([5.0, -5.0, 0.0])
    gate.log_alpha.assign(np.full((4, 3), -5.0))
    plain, scaling = trace(model).nodes
    assert type(plain.layer) is layers.Dense
    kernel = keras.ops.convert_to_numpy(dense.kernel)
    np.testing.assert_allclose(
        plain.layer.get_weights()[0], kernel * [[1.0], [0.0], [0.5]]
    )
    assert type(scaling.layer) is layers.Rescaling
    assert scaling.name == "gate"
    assert np.shape(scaling.layer.scale) == (1, 4, 3)
    assert not np.any(scaling.layer.scale)
    unbaked = trace(model, baked=False)
    assert [node.layer for node in unbaked.nodes] == [dense, gate]


def test_inner_names_make_way():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="a"), layers.ReLU(name="b")],
        name="inner",
    )
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="a")(inner(inputs))
    graph = trace(keras.Model(inputs, x))
    assert names(graph) == ["inner_a", "b", "a"]


def test_a_model_that_is_called_twice_shares_its_layers():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="dense")], name="inner"
    )
    inputs = keras.Input((4,))
    graph = trace(keras.Model(inputs, inner(inner(inputs))))
    assert names(graph) == ["dense", "dense"]
    assert graph.nodes[0].operation is graph.nodes[1].operation
    assert graph.nodes[1].input is graph.nodes[0].output
    assert [v.is_output for v in graph.values] == [False, False, True]


def test_structures_stay():
    inputs = {name: keras.Input((2,), name=name) for name in "ab"}
    outputs = {"sum": layers.Add()([inputs["a"], inputs["b"]])}
    graph = trace(keras.Model(inputs, outputs))
    assert graph.inputs["b"].tensor is inputs["b"]
    assert graph.outputs["sum"].producer is graph.nodes[0]
