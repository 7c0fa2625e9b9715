"""What has no gates is said, with the reasons."""

import warnings

import keras
from keras import layers

import l0keras


class Matrix(layers.Layer):
    """A layer with weights that nobody knows."""

    def build(self, input_shape):
        width = input_shape[-1]
        self.matrix = self.add_weight(shape=(width, width))

    def call(self, x):
        return keras.ops.matmul(x, self.matrix.value)


def said(model, **arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        l0keras.sparsify(model, **arguments)
    return [str(w.message) for w in caught if w.category is UserWarning]


def chain(*middle):
    inputs = keras.Input((8,))
    x = layers.Dense(16, name="first")(inputs)
    for layer in middle:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2, name="last")(x))


def test_nothing_is_said_where_gates_can_free_most():
    assert said(chain(layers.Dense(16))) == []


def test_reasons_come_in_the_order_of_the_weights_they_keep():
    (text,) = said(chain(Matrix(name="own")))
    assert text.startswith("no channel of model 'functional")
    first, second, third = text.split("What stays: ")[1].split("; ")
    assert first.startswith("256 weights: 'own' (Matrix) is kept as it is")
    assert second.startswith("144 weights: the 16 channels of 'first': 'own'")
    assert (
        third == "34 weights: the 2 channels of 'last': an output of the model."
    )


def test_less_than_half_is_said():
    text, *more = said(chain(Matrix(name="own"), layers.Dense(4)))
    assert not more
    # The first layer and the unknown one stay; 16 * 4 + 4 + 4 * 2 go.
    assert "can free 76 of the 478 weights" in text


def test_what_rules_leave_out_is_not_complained_of():
    model = chain(layers.Dense(16))
    assert said(model, rules={".*": False}) == []


def test_names_of_data_stay():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    x = layers.Dense(6)(layers.Concatenate()(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    gated = l0keras.sparsify(model)
    names = [tensor.name for tensor in model.inputs]
    for other in (gated, l0keras.strip(gated)):
        assert [tensor.name for tensor in other.inputs] == names
        assert other.output_names == model.output_names
