import doctest

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras import register_channel_rule
from l0keras.graph import Rule
from tests.graph.rules import checks


class Leaky(layers.Layer):
    def __init__(self, slope=0.5, **kwargs):
        super().__init__(**kwargs)
        self.slope = slope

    def call(self, inputs):
        return keras.ops.where(inputs < 0, self.slope * inputs, inputs)

    def get_config(self):
        return {**super().get_config(), "slope": self.slope}


class Scale(layers.Layer):
    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.scale = self.add_weight(name="scale", shape=shape)

    def call(self, inputs):
        return inputs * self.scale.value


class ScaleRule(Rule):
    shrinks_with_input = True

    def constants(self, node):
        return node.input.constants * node.params["scale"]

    def shrink(self, node):
        return {}, {"scale": node.params["scale"][node.got()]}


@pytest.fixture(autouse=True)
def registrations():
    """Takes back what a test registers."""
    from l0keras.graph.rules import table

    before = dict(table.RULES)
    yield
    table.RULES.clear()
    table.RULES.update(before)


def around(*own):
    inputs = keras.Input((4,))
    x = layers.Dense(6, name="before")(inputs)
    for layer in own:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2, name="all_after")(x))


def closed(model, bias=0.0):
    rng = np.random.default_rng(0)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4], bias)
    stripped = checks.check(model, rng)
    return stripped.get_layer("before").units


def test_the_example_of_the_docstring_runs():
    parser = doctest.DocTestParser()
    test = parser.get_doctest(
        register_channel_rule.__doc__, {}, "example", None, None
    )
    assert len(test.examples) > 8
    text = []
    result = doctest.DocTestRunner().run(test, out=text.append)
    assert result.failed == 0, "".join(text)


def test_without_a_rule_a_layer_is_a_barrier():
    model = around(Scale(name="own"))
    assert closed(model) == 6
    reason = checks.barriers(model)["own"]
    assert reason.startswith("kept as it is: no rule for Scale, and it cannot")


@pytest.mark.parametrize("bias", [0.0, -2.0])
def test_with_a_rule_it_is_cut(bias):
    register_channel_rule(Scale, ScaleRule())
    model = around(Scale(name="own"))
    assert closed(model, bias) == 4
    assert not checks.barriers(model)


@pytest.mark.parametrize("bias", [0.0, -2.0])
def test_the_rule_of_a_layer_of_keras(bias):
    register_channel_rule(Leaky, layers.LeakyReLU)
    assert closed(around(Leaky(0.3)), bias) == 4


def test_a_gate_moves_through_a_homogeneous_layer():
    register_channel_rule(Leaky, layers.LeakyReLU)
    gate = l0keras.HardConcreteGate(name="gate")
    model = around(Leaky(0.3), gate)
    checks.randomize(model, np.random.default_rng(0), closed=0.0)
    gate.log_alpha.assign([0.0, 0.5, -5.0, 1.0, -0.5, -5.0])
    stripped = checks.check(model, np.random.default_rng(0))
    assert "gate" not in {layer.name for layer in stripped.layers}
    assert stripped.get_layer("before").units == 4


def test_the_last_registration_counts():
    register_channel_rule(Leaky, ScaleRule())
    register_channel_rule(Leaky, layers.LeakyReLU)
    assert closed(around(Leaky())) == 4
    # A class may share the rule of another registered one.
    register_channel_rule(Scale, Leaky)


def test_derived_classes_are_not_meant():
    register_channel_rule(Leaky, layers.LeakyReLU)

    class Derived(Leaky):
        pass

    model = around(Derived(name="derived"))
    # It is opened, as every layer is that computes with ops of Keras.
    assert closed(model) == 4
    assert "derived" not in {
        layer.name for layer in l0keras.strip(model).layers
    }


@pytest.mark.parametrize(
    "layer_class, rule, text",
    [
        (layers.Dense, ScaleRule(), "`layer_class` must be a class of your"),
        (
            l0keras.HardConcreteGate,
            ScaleRule(),
            "`layer_class` must be a class of your own",
        ),
        (dict, ScaleRule(), "`layer_class` must be a class derived from"),
        (Scale(), ScaleRule(), "`layer_class` must be a class derived from"),
        (keras.ops.relu, ScaleRule(), "`layer_class` must be a class derived"),
        (Scale, ScaleRule, "`rule` must be an instance of"),
        (Scale, "LeakyReLU", "`rule` must be an instance of"),
        (Scale, layers.Masking, "`rule` must be an instance of"),
        (Scale, layers.LeakyReLU(), "`rule` must be an instance of"),
        (Scale, [], "`rule` must be an instance of"),
    ],
)
def test_what_cannot_be_registered(layer_class, rule, text):
    with pytest.raises(ValueError, match=text):
        register_channel_rule(layer_class, rule)
