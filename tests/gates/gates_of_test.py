import keras
import pytest

import l0keras


def test_lists_gates_in_the_order_of_the_layers():
    inner = keras.Sequential(
        [keras.Input((4,)), l0keras.layers.L0Dense(4, name="inner")]
    )
    inputs = keras.Input((6,))
    x = l0keras.HardConcreteGate(name="first")(inputs)
    x = l0keras.layers.L0Dense(4, name="second")(x)
    shared = l0keras.HardConcreteGate(name="shared")
    x = shared(keras.layers.Dense(4)(shared(x)))
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(x)))
    second = model.get_layer("second").gate
    assert l0keras.gates_of(model) == [
        model.get_layer("first"),
        second,
        shared,
        inner.get_layer("inner").gate,
    ]


def test_is_empty_without_gates():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert l0keras.gates_of(model) == []


def test_takes_a_single_layer():
    layer = l0keras.layers.L0Dense(2)
    layer.build((None, 3))
    assert l0keras.gates_of(layer) == [layer.gate]
    gate = l0keras.HardConcreteGate()
    assert l0keras.gates_of(gate) == [gate]


def test_sees_gates_of_a_subclassed_model():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [l0keras.layers.L0Dense(2), keras.layers.Dense(2)]

        def call(self, inputs):
            return self.parts[1](self.parts[0](inputs))

    model = Model()
    model(keras.ops.ones((1, 3)))
    assert l0keras.gates_of(model) == [model.parts[0].gate]


def test_refuses_what_is_no_layer():
    with pytest.raises(ValueError, match="`model`.*Received"):
        l0keras.gates_of("lenet5")
