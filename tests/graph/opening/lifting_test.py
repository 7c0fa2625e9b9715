"""Variables that a layer made itself, as layers of Keras."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from tests.graph.opening.open_layer_test import check_road
from tests.graph.opening.open_layer_test import closed_reasons
from tests.graph.opening.open_layer_test import kinds
from tests.graph.rules import checks


class Linear(layers.Layer):
    """As in Keras's guide to layers of one's own."""

    def __init__(self, units, **arguments):
        super().__init__()
        self.units = units
        self.arguments = arguments

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.w = self.add_weight(shape=shape, **self.arguments)
        self.b = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, x):
        return keras.activations.relu(ops.matmul(x, self.w) + self.b)


def chain(*middle, width=12):
    inputs = keras.Input((5, 8))
    x = layers.Dense(width, activation="relu")(inputs)
    for layer in middle:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def test_a_matrix_is_a_kernel_and_a_vector_its_bias():
    rng = np.random.default_rng(0)
    model = chain(Linear(16))
    result, stripped = check_road(model, rng)
    assert closed_reasons(model) == [] and Linear not in kinds(stripped)
    assert sum(g.log_alpha.shape[0] for g in l0keras.gates_of(result)) == 28
    dense = [x for x in result.layers if isinstance(x, layers.Dense)]
    assert [x.use_bias for x in dense] == [True] * 3
    # Gates apart, nothing comes to the weights.
    assert sum(x.count_params() for x in dense) == model.count_params()
    assert stripped.count_params() < 0.5 * model.count_params()


def test_lifted_weights_train():
    rng = np.random.default_rng(0)
    model = chain(Linear(16))
    copy = l0keras.sparsify(model, l0=0.0, droprate_init=0.001)
    x, y = rng.normal(size=(8, 5, 8)), rng.normal(size=(8, 5, 2))
    for one in (model, copy):
        one.compile("sgd", "mse")
        one.fit(x, y, epochs=3, shuffle=False, verbose=0)
    # The same steps, but for the gates' samples near 1.
    own = model.layers[2].w
    lifted = next(w for w in copy.weights if tuple(w.shape) == (12, 16))
    np.testing.assert_allclose(
        ops.convert_to_numpy(lifted), ops.convert_to_numpy(own), atol=5e-3
    )


def test_a_layer_that_is_called_twice_stays_one():
    rng = np.random.default_rng(0)
    shared = Linear(12)
    model = chain(shared, shared)
    result, stripped = check_road(model, rng)
    dense = [x for x in stripped.layers if isinstance(x, layers.Dense)]
    assert len(dense) == 3
    assert len(dense[1]._inbound_nodes) == 2


class Scaled(layers.Layer):
    """A residual block with a factor for each channel, and a token."""

    def build(self, input_shape):
        width = input_shape[-1]
        self.inner, self.outer = layers.Dense(24, "relu"), layers.Dense(width)
        self.inner.build((None, None, width))
        self.outer.build((None, None, 24))
        self.gamma = self.add_weight(shape=(width,), initializer="ones")
        self.token = self.add_weight(shape=(1, 1, width))

    def call(self, x):
        x = x + self.gamma * self.outer(self.inner(x))
        return x + self.token


def test_vectors_and_tokens_are_looked_up():
    rng = np.random.default_rng(0)
    model = chain(Scaled(), Scaled())
    result, stripped = check_road(model, rng)
    assert closed_reasons(model) == [] and Scaled not in kinds(stripped)
    assert stripped.count_params() < 0.7 * model.count_params()
    stripped = l0keras.strip(model)
    # The factors are multiplied into kernels.
    assert stripped.count_params() == model.count_params() - 2 * 12


def test_regularizers_come_along():
    model = chain(Linear(16, regularizer="l2"))
    result = l0keras.sparsify(model, l0=0.0)
    x = np.ones((2, 5, 8), "float32")
    result(x), model(x)
    np.testing.assert_allclose(
        float(ops.sum(ops.convert_to_tensor(result.losses))),
        float(ops.sum(ops.convert_to_tensor(model.losses))),
        rtol=1e-5,
    )


class Turned(Linear):
    def call(self, x):
        return ops.matmul(x, ops.transpose(self.w))


class Counts(layers.Layer):
    def build(self, input_shape):
        self.calls = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, x):
        self.calls.assign_add(1)
        return x


class Moves(layers.Layer):
    def build(self, input_shape):
        self.mean = self.add_weight(shape=(input_shape[-1],), trainable=False)

    def call(self, x):
        self.mean.assign(0.9 * self.mean)
        return x - self.mean


@pytest.mark.parametrize(
    "layer, reason",
    [
        (lambda: Turned(12), "no kernels of layers"),
        (Counts, "is no float"),
        (Moves, ""),
    ],
)
def test_what_cannot_be_lifted_stays(layer, reason):
    rng = np.random.default_rng(0)
    model = chain(layer())
    (found,) = closed_reasons(model)
    assert reason in found and "\n" not in found
    check_road(model, rng)


def test_a_variable_of_several_layers_stays_one():
    class Tied(Linear):
        def __init__(self, other):
            super().__init__(12)
            self.other = other

        def build(self, input_shape):
            self.w, self.b = self.other.w, self.other.b

    first = Linear(12)
    model = chain(first, Tied(first))
    reasons = closed_reasons(model)
    assert reasons == ["has a variable of another layer, too"] * 2
    stripped = l0keras.strip(model)
    assert len(stripped.weights) == len(model.weights)


def test_what_is_not_cast_is_not_rounded():
    class Exact(layers.Layer):
        def build(self, input_shape):
            self.factors = self.add_weight(
                shape=(input_shape[-1],), initializer="ones", autocast=False
            )

        def call(self, x):
            return ops.cast(x, "float32") * self.factors

    inputs = keras.Input((3,))
    x = layers.Dense(4, dtype="mixed_float16")(inputs)
    exact = Exact(dtype="mixed_float16")
    model = keras.Model(inputs, exact(x))
    exact.factors.assign(exact.factors * (1 + 1e-6))
    assert closed_reasons(model) == []
    result = l0keras.sparsify(model)
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(
        checks.to_numpy(model(x)), checks.to_numpy(result(x))
    )
