import functools
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.copying import Changed
from l0keras.copying import Copier
from l0keras.copying import live_arguments

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(4, 8)).astype("float32")
SEQUENCES = RNG.normal(size=(4, 5, 8)).astype("float32")
IMAGES = RNG.normal(size=(2, 6, 6, 4)).astype("float32")


def relu(x):
    """A leaky one, with the name of one of Keras's functions."""
    return ops.maximum(x, 0.1 * x)


def number(x):
    return ops.convert_to_numpy(x)


class Everything(layers.Layer):
    """All that a layer may hold, and a constructor without `**kwargs`."""

    def __init__(self, depth):
        super().__init__()
        self.in_a_list = [layers.Dense(8) for _ in range(depth)]
        self.by_name = {"last": layers.Dense(8)}
        self.noise = keras.random.SeedGenerator(3)
        self.state = {"array": np.ones(3), "set": {1, 2}}
        self.factor = 1.0
        last = self.by_name["last"]
        self.closure = lambda x: last(x)
        self.bound = last.call
        self.part = functools.partial(ops.multiply, 2.0)

    def call(self, x):
        for layer in self.in_a_list:
            x = layer(x)
        return self.factor * self.part(self.closure(x))


def adapted():
    layer = layers.Normalization()
    layer.adapt(ROWS)
    return layer


@pytest.mark.parametrize(
    "layer, x",
    [
        (layers.Dense(3, activation=relu), ROWS),
        (layers.BatchNormalization(), ROWS),
        (layers.Lambda(lambda x: 2 * x), ROWS),
        (layers.Conv2D(4, 3), IMAGES),
        (layers.LSTM(4), SEQUENCES),
        (layers.Bidirectional(layers.GRU(4, activation=relu)), SEQUENCES),
        (layers.TimeDistributed(layers.Dense(4)), SEQUENCES),
        (adapted(), ROWS),
        (Everything(2), ROWS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_copy_computes_the_same_with_weights_of_its_own(layer, x):
    before = number(layer(x))
    copy = Copier().layer(layer, "copy")
    assert copy.name == "copy" and layer.name != "copy"
    assert type(copy) is type(layer)
    np.testing.assert_array_equal(number(copy(x)), before)
    assert len(copy.weights) == len(layer.weights)
    for own, other in zip(copy.weights, layer.weights, strict=True):
        assert own is not other
        assert own.path == f"copy/{other.path.partition('/')[2]}"
        own.assign(number(own) * 0 + 1)
    np.testing.assert_array_equal(number(layer(x)), before)


def test_what_is_shared_inside_is_shared_inside_the_copy():
    layer = Everything(2)
    layer(ROWS)
    copy = Copier().layer(layer)
    last = copy.by_name["last"]
    assert last is not layer.by_name["last"]
    assert copy.bound.__self__ is last
    assert copy.closure.__closure__[0].cell_contents is last
    assert copy.part.func is layer.part.func
    # Tracked as if it had been set by hand.
    assert {id(one) for one in copy._layers} == {
        id(one) for one in [*copy.in_a_list, last]
    }
    assert copy._seed_generators == [copy.noise]
    assert copy.noise.state is not layer.noise.state
    copy.state["set"].add(3)
    copy.state["array"][0] = 5
    assert layer.state["set"] == {1, 2}
    assert layer.state["array"][0] == 1


def test_a_copy_trains_and_the_original_does_not():
    layer = Everything(1)
    before = number(layer(ROWS))
    inputs = keras.Input((8,))
    model = keras.Model(inputs, Copier().layer(layer, "copy")(inputs))
    model.compile("sgd", "mse")
    model.fit(ROWS, ROWS, verbose=0)
    assert np.abs(number(model(ROWS)) - before).max() > 1e-3
    np.testing.assert_array_equal(number(layer(ROWS)), before)


def test_random_layers_go_on_from_the_same_state():
    layer = layers.Dropout(0.5, seed=1)
    layer(ROWS, training=True)
    copy = Copier().layer(layer)
    for _ in range(2):
        np.testing.assert_array_equal(
            number(copy(ROWS, training=True)),
            number(layer(ROWS, training=True)),
        )


def test_a_changed_layer_keeps_its_functions_and_what_was_set():
    regularizer = keras.regularizers.L2(0.5)
    layer = layers.Dense(3, activation=relu, kernel_regularizer=regularizer)
    layer(ROWS)
    layer.note = {"by": "hand"}
    new = Copier().changed(layer, "new", {"units": 2})
    assert (new.units, new.built, new.name) == (2, False, "new")
    assert new.activation is relu
    assert float(new.kernel_regularizer.l2) == 0.5
    assert new.note == {"by": "hand"} and new.note is not layer.note
    new(ROWS[:, :5])
    assert [tuple(w.shape) for w in new.weights] == [(5, 2), (2,)]


def test_a_wrapper_is_copied_around_a_changed_layer():
    layer = layers.Bidirectional(layers.GRU(4, activation=relu))
    layer(SEQUENCES)
    changes = {
        "layer": Changed(layer.forward_layer, {"units": 2}),
        "backward_layer": Changed(layer.backward_layer, {"units": 3}),
    }
    new = Copier().changed(layer, "new", changes)
    assert new(SEQUENCES).shape == (4, 5)
    # Keras itself makes the inner layers of their configurations.
    assert new.forward_layer.activation is layer.forward_layer.activation
    assert layer(SEQUENCES).shape == (4, 8)


def test_arguments_are_the_live_objects():
    layer = layers.Dense(3, activation=lambda x: x, dtype="float64")
    arguments = live_arguments(layer)
    assert arguments["activation"] is layer.activation
    assert arguments["dtype"] is layer.dtype_policy
    assert type(layer)(**arguments).units == 3


class Forgetful(layers.Layer):
    """A layer whose configuration lacks what its constructor takes."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def get_config(self):
        return super().get_config()

    def call(self, x):
        return x * self.factor


class Odd(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor


class Method:
    def twice(self, x):
        return 2 * x


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(6, activation=relu),
        layers.Dense(6, activation=ops.gelu),
        layers.Dense(6, activation=lambda x: x * ops.sigmoid(x)),
        layers.Activation(ops.gelu),
        layers.Lambda(lambda x: 2 * x, output_shape=(8,)),
        layers.Lambda(Method().twice, output_shape=(8,)),
        layers.Dense(6, activation=layers.PReLU()),
        layers.Dense(6, kernel_regularizer=lambda w: ops.sum(w)),
        Forgetful(5.0),
        Odd(3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_models_of_strangers_come_out_the_same(layer):
    inputs = keras.Input((8,))
    x = layers.Dense(8)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layer(x)))
    expected = number(model(ROWS))
    gated = l0keras.sparsify(model)
    for gate in l0keras.gates_of(gated):
        closed = number(gate.log_alpha)
        closed[::2] = -9.0
        gate.log_alpha.assign(closed)
    np.testing.assert_allclose(
        number(l0keras.strip(model)(ROWS)), expected, atol=1e-6
    )
    np.testing.assert_allclose(
        number(l0keras.strip(gated)(ROWS)), number(gated(ROWS)), atol=1e-6
    )
    np.testing.assert_array_equal(number(model(ROWS)), expected)


class OwnStep(keras.Model):
    """A functional model that trains in a way of its own."""

    def __init__(self, *args, step=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.step = step
        self.seen = keras.metrics.Sum(name="seen")

    @property
    def metrics(self):
        return [self.seen]

    def train_step(self, data):
        self.seen.update_state(self.step)
        return {"seen": self.seen.result()}


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="JAX has other steps"
)
def test_a_functional_model_keeps_its_class_and_train_step():
    inputs = keras.Input((8,))
    outputs = layers.Dense(2)(layers.Dense(6)(inputs))
    model = OwnStep(inputs, outputs, step=7.0)
    model.compile()
    gated = l0keras.sparsify(model)
    for copy in (gated, l0keras.strip(model), l0keras.strip(gated)):
        assert type(copy) is OwnStep and not copy.compiled
        assert copy.seen is not model.seen
        copy.compile()
        history = copy.fit(ROWS, ROWS[:, :2], verbose=0)
        assert history.history == {"seen": [7.0]}
    assert float(number(model.seen.total)) == 0.0


def test_a_lost_class_is_said():
    class Mine(keras.Sequential):
        def train_step(self, data):
            return {}

    model = Mine([keras.Input((8,)), layers.Dense(6), layers.Dense(2)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        l0keras.sparsify(model)
    said = [str(w.message) for w in caught if w.category is UserWarning]
    assert len(said) == 1 and "not have the train_step of that" in said[0]


def test_what_cannot_be_copied_is_named():
    class Refuses(layers.Layer):
        def __new__(cls, size):
            return super().__new__(cls)

        def __init__(self, size):
            super().__init__()

        def call(self, x):
            return x

    inputs = keras.Input((8,))
    model = keras.Model(inputs, Refuses(3)(inputs))
    with pytest.raises(ValueError, match="Layer 'refuses' .Refuses. cannot"):
        l0keras.strip(model)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="strings are TensorFlow's"
)
def test_vocabularies_come_along():
    import tensorflow as tf

    words = tf.constant([["one", "two", "three"], ["two", "two", "zero"]])
    lookup = layers.StringLookup()
    lookup.adapt(words)
    inputs = keras.Input((3,), dtype="string")
    x = layers.Embedding(lookup.vocabulary_size(), 4)(lookup(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    expected = number(model(words))
    for copy in (l0keras.sparsify(model), l0keras.strip(model)):
        np.testing.assert_allclose(number(copy(words)), expected, atol=1e-6)


@pytest.mark.parametrize("layer", ["LSTM", "Bidirectional"])
def test_a_stateful_layer_has_states_of_its_own(layer):
    rnn = layers.LSTM(3, stateful=True)
    if layer == "Bidirectional":
        rnn = layers.Bidirectional(rnn)
    rnn(SEQUENCES)
    copy = Copier().layer(rnn)
    # Both go on from where the original was.
    for _ in range(2):
        np.testing.assert_array_equal(
            number(copy(SEQUENCES)), number(rnn(SEQUENCES))
        )


def test_a_class_that_makes_its_own_graph_is_not_adopted(tmp_path):
    class Fixed(keras.Model):
        def __init__(self, width=8, **kwargs):
            inputs = keras.Input((4,))
            x = layers.Dense(width, activation="relu")(inputs)
            super().__init__(inputs, layers.Dense(2)(x), **kwargs)
            self.width = width

        def encode(self, x):
            return x

        def get_config(self):
            return {"width": self.width, "name": self.name}

    model = Fixed()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gated = l0keras.sparsify(model)
    (said,) = (str(w.message) for w in caught if w.category is UserWarning)
    assert "the encode of that class: its configuration says nothing" in said
    path = tmp_path / "gated.keras"
    gated.save(path)
    loaded = keras.models.load_model(path)
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(loaded(x), gated(x), rtol=0, atol=1e-6)


def test_objects_need_no_configuration_to_be_kept():
    class Own(keras.Regularizer):
        def __call__(self, x):
            return keras.ops.sum(x)

    own = Own()
    inputs = keras.Input((4,))
    x = layers.Dense(8, kernel_regularizer=own)(inputs)
    x = layers.Reshape((2, 4))(x)
    x = layers.GRU(6, recurrent_regularizer=own)(x)
    gated = l0keras.sparsify(keras.Model(inputs, layers.Dense(2)(x)))
    for gate in l0keras.gates_of(gated):
        gate.log_alpha.assign(np.arange(gate.log_alpha.shape[0]) % 2 * 11 - 8.0)
    stripped = l0keras.strip(gated)
    _, dense, *_ = stripped.layers
    assert dense.units == 4 and isinstance(dense.kernel_regularizer, Own)
    (gru,) = (x for x in stripped.layers if isinstance(x, layers.GRU))
    assert gru.units == 3 and isinstance(gru.recurrent_regularizer, Own)
