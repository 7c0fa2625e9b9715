import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras.callbacks import RewireStorage
from l0keras.connections.pool import Pool
from l0keras.connections.positions import signs_at
from l0keras.connections.storage_pool import StoragePool
from l0keras.layers import SparseDense
from l0keras.layers.sparse_matmul import sparse_matmul
from l0keras.optimizers import DeepR
from l0keras.optimizers import init_sparse
from tests.optimizers.sparse_training import BACKEND
from tests.optimizers.sparse_training import array
from tests.testing import gradient

optimizers = keras.optimizers
layers = keras.layers
only_tensorflow = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="is TensorFlow's, or takes long elsewhere"
)


def built(*args, inputs=9, **kwargs):
    layer = SparseDense(*args, **{"seed": 1, **kwargs})
    layer.build((None, inputs))
    return layer


def kernel_of(layer):
    return array(layer.to_dense().kernel)


@pytest.mark.parametrize("shape", [(5, 9), (2, 3, 9)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_computes_what_a_dense_layer_of_its_weights_does(shape, use_bias):
    layer = built(
        6,
        0.3,
        activation="tanh",
        use_bias=use_bias,
        bias_initializer="normal",
    )
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    expected = x @ kernel_of(layer)
    if use_bias:
        expected = expected + array(layer.bias)
    np.testing.assert_allclose(array(layer(x)), np.tanh(expected), atol=1e-6)
    assert layer.compute_output_shape(shape) == (*shape[:-1], 6)


@pytest.mark.parametrize("batch", [4, 3000])
def test_gradients_are_those_of_the_dense_layer(batch):
    # A batch of 3000 takes the gradient of the values in several pieces.
    layer = built(40, 0.1, inputs=30)
    assert layer.connections == 120
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, 30)).astype("float32")
    weights = rng.normal(size=(batch, 40)).astype("float32")
    kernel = kernel_of(layer)
    positions = array(layer.positions)

    def loss(values, inputs):
        outputs = sparse_matmul(
            inputs, values, ops.convert_to_tensor(layer.positions), (30, 40)
        )
        return ops.sum(outputs * weights)

    values = array(layer.values)
    found = gradient(lambda v: loss(v, ops.convert_to_tensor(x)), values)
    expected = (x.T @ weights).reshape(-1)[positions]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    found = gradient(lambda i: loss(ops.convert_to_tensor(values), i), x)
    np.testing.assert_allclose(found, weights @ kernel.T, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "glorot_uniform",
        "he_normal",
        "lecun_normal",
        keras.initializers.VarianceScaling(1.0, "fan_out", seed=1),
    ],
)
def test_start_is_scaled_as_a_full_kernel(name):
    layer = built(200, 0.2, inputs=300, kernel_initializer=name)
    values = array(layer.values)
    full = array(keras.initializers.get(name)((300, 200)))
    assert values.std() == pytest.approx(full.std(), rel=0.05)
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(values.size)
    positions = array(layer.positions)
    assert len(positions) == layer.connections == 12_000
    assert (np.diff(positions) > 0).all()
    assert positions.max() > 55_000
    signs = array(signs_at(ops.convert_to_tensor(positions), 1))
    np.testing.assert_array_equal(np.sign(values), signs)
    constant = built(6, 0.5, kernel_initializer="ones")
    assert set(np.abs(array(constant.values))) == {1.0}


def test_conversion_is_exact_both_ways():
    dense = layers.Dense(7, "relu", name="fc", bias_initializer="normal")
    dense.build((None, 9))
    kernel = array(dense.kernel) * (np.arange(63).reshape(9, 7) % 4 == 1)
    dense.kernel.assign(kernel)
    sparse = SparseDense.from_dense(dense, seed=3)
    assert sparse.connections == np.count_nonzero(kernel) == 16
    signs = np.sign(array(sparse.values))
    np.testing.assert_array_equal(array(sparse.signs), signs)
    assert sparse.name == "fc"
    again = sparse.to_dense()
    for a, b in zip(again.get_weights(), dense.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.get_config()["activation"] == "relu"
    copy = SparseDense.from_config(sparse.get_config())
    copy.build((None, 9))
    assert copy.connections == 16
    copy.set_weights(sparse.get_weights())
    np.testing.assert_array_equal(kernel_of(copy), kernel)


def test_conversion_keeps_all_arguments():
    arguments = {
        "activation": "tanh",
        "kernel_initializer": "he_normal",
        "bias_initializer": "ones",
        "kernel_regularizer": "l2",
        "bias_regularizer": "l1",
        "bias_constraint": "non_neg",
        "dtype": "mixed_bfloat16",
        "trainable": False,
    }
    sparse = built(6, 0.4, name="fc", **arguments)
    plain = sparse.to_dense()
    expected = layers.Dense(6, name="fc", **arguments).get_config()
    assert plain.get_config() == expected
    again = SparseDense.from_dense(plain, seed=1)
    assert again.get_config() == {
        **sparse.get_config(),
        "connectivity": 22 / 54,
    }
    assert not plain.trainable and not again.trainable
    sparse.trainable = True
    plain = sparse.to_dense()
    assert plain.trainable and SparseDense.from_dense(plain).trainable
    without = built(6, 0.4, use_bias=False).to_dense()
    assert not without.use_bias
    assert not SparseDense.from_dense(without).use_bias


def test_saves_and_loads_with_its_connections(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((9,)),
            SparseDense(8, 0.3, activation="relu", kernel_regularizer="l2"),
            SparseDense(3, 0.5),
        ]
    )
    x = np.random.default_rng(0).normal(size=(5, 9)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(loaded(x)), array(model(x)))
    assert len(loaded.losses) == 1
    assert loaded.layers[0].get_config() == model.layers[0].get_config()


def test_strip_makes_it_dense_and_cuts_it():
    model = keras.Sequential(
        [
            keras.Input((9,)),
            SparseDense(50, 0.02, activation="relu", seed=2),
            layers.Dense(3),
        ]
    )
    x = np.random.default_rng(0).normal(size=(5, 9)).astype("float32")
    small = l0keras.strip(model)
    np.testing.assert_allclose(array(small(x)), array(model(x)), atol=1e-6)
    assert not any(isinstance(one, SparseDense) for one in small.layers)
    assert small.layers[-2].units <= 9


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float64"])
def test_other_precisions(dtype):
    if BACKEND == "jax" and dtype == "float64":
        pytest.skip("JAX has none unless told to")
    layer = built(6, 0.4, dtype=dtype)
    x = ops.ones((3, 9), layer.compute_dtype)
    outputs = layer(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    np.testing.assert_allclose(
        array(ops.cast(outputs, "float32")),
        np.ones((3, 9)) @ kernel_of(layer),
        rtol=0.03,
        atol=0.03,
    )


def test_trains_with_any_optimizer():
    model = keras.Sequential([keras.Input((9,)), SparseDense(6, 0.4, seed=1)])
    positions = array(model.layers[0].positions)
    x = np.random.default_rng(0).normal(size=(64, 9)).astype("float32")
    y = x @ kernel_of(built(6, 0.4))
    model.compile(optimizers.Adam(0.05), loss="mse", jit_compile=False)
    losses = model.fit(x, y, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.05 * losses[0]
    np.testing.assert_array_equal(array(model.layers[0].positions), positions)


class Steps(keras.callbacks.Callback):
    """Notes loss, connections and kernel of a layer, once per epoch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_epoch_end(self, epoch, logs):
        layer = self.model.layers[0]
        sparse = isinstance(layer, SparseDense)
        (positions,) = self.model.optimizer.positions().values()
        self.found.append(
            {
                "loss": logs["loss"],
                "positions": positions,
                "kernel": kernel_of(layer) if sparse else array(layer.kernel),
            }
        )


def steps_of(model, x, y, count):
    """What `Steps` notes of a training with a step in each epoch."""
    steps = Steps()
    callbacks = [steps]
    if isinstance(model.layers[0], SparseDense):
        callbacks.append(RewireStorage())
    model.fit(
        x, y, batch_size=len(x), epochs=count, callbacks=callbacks, verbose=0
    )
    return steps.found


@pytest.mark.parametrize("share", [0.1, 0.6])
@pytest.mark.parametrize("inner", ["sgd", "masked adam"])
def test_rewired_as_the_masked_form(inner, share, monkeypatch):
    # Of the same draws. Those of sparse storage are tested by themselves.
    monkeypatch.setattr(StoragePool, "rewire", Pool.rewire)

    def network(layer):
        return keras.Sequential([keras.Input((30,)), layer])

    make = {
        "sgd": lambda: optimizers.SGD(
            optimizers.schedules.ExponentialDecay(0.5, 3, 0.5)
        ),
        # Without momenta that would stay from before a connection died.
        "masked adam": lambda: optimizers.Adam(0.05, 0.0, 0.0, epsilon=0.1),
    }[inner]
    masked = network(layers.Dense(20, name="fc"))
    init_sparse(masked, share, seed=4)
    # Signs of all potential connections by the rule of the storage.
    kernel = np.abs(masked.get_weights()[0]).reshape(-1)
    kernel = kernel * array(signs_at(ops.arange(600, dtype="int32"), 7))
    masked.layers[0].kernel.assign(kernel.reshape(30, 20))
    sparse = network(SparseDense.from_dense(masked.layers[0], seed=7))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 30)).astype("float32")
    y = rng.normal(size=(16, 20)).astype("float32")
    for model in (masked, sparse):
        optimizer = DeepR(make(), share, l1=0.03, seed=7)
        model.compile(optimizer, loss="mse", jit_compile=False)
    # With the draws of `Pool`, JAX compiles a loop in each step.
    count, least = (12, 20) if BACKEND == "tensorflow" else (4, 2)
    found, expected = (
        steps_of(model, x, y, count) for model in (sparse, masked)
    )
    for one, other in zip(found, expected, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        np.testing.assert_array_equal(one["positions"], other["positions"])
        np.testing.assert_allclose(
            one["kernel"], other["kernel"], rtol=1e-3, atol=1e-4
        )
    (rewired,) = sparse.optimizer.rewired().values()
    assert (rewired,) == tuple(masked.optimizer.rewired().values())
    assert rewired > least
    positions = ops.convert_to_tensor(found[-1]["positions"])
    signs = array(signs_at(positions, 7))
    np.testing.assert_array_equal(array(sparse.layers[0].signs), signs)


@only_tensorflow
def test_moments_move_with_their_connections():
    layer = built(20, 0.1, inputs=30)
    layer.key.assign(5)
    optimizer = DeepR(
        optimizers.Adam(0.05), l1=0.05, seed=2, use_ema=True, ema_momentum=0.9
    )
    optimizer.build(layer.trainable_variables)
    names = ("momentum", "velocity", "average")
    slots = [
        next(v for v in optimizer.variables if v.name.endswith(f"values_{n}"))
        for n in names
    ]
    held = [{}, {}, {}]
    rng = np.random.default_rng(0)
    average = {}
    for step in range(10):
        before = array(layer.positions)
        given = rng.normal(size=60).astype("float32")
        optimizer.apply(
            [ops.convert_to_tensor(given), ops.zeros((20,))],
            layer.trainable_variables,
        )
        own = dict(zip(before, given))
        values = dict(zip(array(layer.positions), array(layer.values)))
        for index, (old, new) in enumerate(((0.9, 1), (0.999, 2))):
            moved = {
                p: old * held[index].get(p, 0) + (1 - old) * g**new
                for p, g in own.items()
            }
            # A connection that has weight 0 is a new one.
            held[index] = {
                p: moved.get(p, 0) if w else 0 for p, w in values.items()
            }
            np.testing.assert_allclose(
                array(slots[index]), list(held[index].values()), atol=1e-5
            )
        momentum = 0.9 if step else 0.0
        average = {
            p: momentum * (average.get(p, 0) if w else 0) + (1 - momentum) * w
            for p, w in values.items()
        }
        np.testing.assert_allclose(
            array(slots[2]), list(average.values()), atol=1e-5
        )
        assert (array(layer.values) * array(layer.signs) >= 0).all()
    assert sum(optimizer.rewired().values()) > 20


@only_tensorflow
def test_signs_are_those_of_the_values_that_rewiring_starts_from():
    layer = built(20, 0.1, inputs=30, use_bias=False)
    before = array(layer.values)
    # As another optimizer may have left them; of a 0 the sign stays.
    turned = -before
    turned[0] = 0.0
    layer.values.assign(turned)
    first = array(layer.signs)[0]
    optimizer = DeepR(optimizers.SGD(0.1), l1=0.0, seed=1)
    optimizer.build(layer.trainable_variables)
    assert array(layer.signs)[0] == first
    np.testing.assert_array_equal(array(layer.signs)[1:], np.sign(turned)[1:])
    optimizer.apply([ops.zeros(60)], layer.trainable_variables)
    # All others go on, instead of being closed at once.
    assert optimizer.rewired() == {layer.values.path: 1}
    assert set(turned[1:]) <= set(array(layer.values))


@only_tensorflow
@pytest.mark.parametrize("names", [("fc", "fc"), ("fc", "fc_values")])
def test_moments_are_those_of_layers_whatever_their_names(names):
    """Nested models may have layers of the same names, and so paths."""
    found = []
    for pair in (names, ("one", "other")):
        towers = []
        for index, name in enumerate(pair):
            inputs = keras.Input((30,))
            layer = SparseDense(20, 0.1, seed=index, name=name)
            keras.utils.set_random_seed(index)
            towers.append(keras.Model(inputs, layer(inputs)))
        variables = [v for one in towers for v in one.trainable_variables]
        optimizer = DeepR(optimizers.Adam(0.05), l1=0.1, seed=2)
        rng = np.random.default_rng(0)
        for _ in range(6):
            grads = [rng.normal(size=v.shape) for v in variables]
            grads = [ops.convert_to_tensor(g, "float32") for g in grads]
            optimizer.apply(grads, variables)
        found.append([array(v) for v in variables])
        assert all(pool.rewired_of(0) > 10 for pool in optimizer._pools)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@only_tensorflow
def test_rewired_training_is_saved_and_goes_on_the_same(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((30,)),
            SparseDense(20, 0.1, activation="relu", name="a"),
            SparseDense(20, 0.2, name="b"),
        ]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 30)).astype("float32")
    y = rng.normal(size=(64, 20)).astype("float32")
    optimizer = DeepR(optimizers.Adam(0.05), l1=0.1, temperature=1e-3)
    model.compile(optimizer, loss="mse", jit_compile=False)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    before = optimizer.rewired()
    for one in (model, loaded):
        one.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    # Several threads add up in any order.
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-4, atol=1e-5)
    # Paths in a new model start with its name.
    rewired = list(optimizer.rewired().values())
    assert rewired == list(loaded.optimizer.rewired().values())
    assert rewired != list(before.values())


@only_tensorflow
def test_replicas_rewire_the_same():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(
        # The two logical CPUs of conftest.py.
        ["CPU:0", "CPU:1"],
        # Collective ops take what strategies of other tests left behind in
        # this process for their own.
        tf.distribute.ReductionToOneDevice(),
    )

    def compiled():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((30,)), SparseDense(20, 0.1, seed=1)]
        )
        optimizer = DeepR(optimizers.Adam(0.05), l1=0.1, seed=1)
        model.compile(optimizer, loss="mse", jit_compile=False)
        return model

    one = compiled()
    with strategy.scope():
        two = compiled()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 30)).astype("float32")
    y = rng.normal(size=(64, 20)).astype("float32")
    for model in (one, two):
        model.fit(x, y, batch_size=16, epochs=4, shuffle=False, verbose=0)
    for variable in [*two.weights, *two.optimizer.variables]:
        first, second = (v.numpy() for v in variable.value.values)
        np.testing.assert_array_equal(first, second)
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-4, atol=1e-5)
    assert sum(two.optimizer.rewired().values()) > 20


@pytest.mark.skipif(BACKEND != "jax", reason="is JAX's")
def test_stateless_steps_are_refused():
    x, y = np.ones((4, 30)), np.ones((4, 20))
    model = keras.Sequential([keras.Input((30,)), SparseDense(20, 0.1)])
    model.compile(DeepR(optimizers.SGD(0.1)), loss="mse")
    # With the callback it goes well, which the next time must not hide.
    model.fit(x, y, verbose=0, callbacks=[RewireStorage()])
    with pytest.raises(ValueError, match=r"`l0keras.callbacks.RewireStorage"):
        model.fit(x, y, verbose=0)


@pytest.mark.skipif(BACKEND != "jax", reason="is JAX's")
def test_steps_that_cannot_be_completed_are_refused():
    model = keras.Sequential([keras.Input((30,)), SparseDense(20, 0.1)])
    x, y = np.ones((4, 30)), np.ones((4, 20))
    for optimizer, steps, message in (
        (optimizers.SGD(0.1), 1, "compiled with `DeepR`. Received: SGD"),
        (DeepR(optimizers.SGD(0.1)), 2, "steps_per_execution=2"),
    ):
        model.compile(optimizer, "mse", steps_per_execution=steps)
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0, callbacks=[RewireStorage()])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"units": 0}, "`units` must be .*units=0"),
        ({"units": 5, "connectivity": 0}, "must lie in .*connectivity=0"),
        ({"units": 5, "connectivity": 1.5}, "must lie in .*connectivity=1.5"),
        ({"units": 5, "seed": -1}, "`seed` must be .*seed=-1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseDense(**arguments)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at least one connection.*9 inputs"):
        built(5, 0.001)
    with pytest.raises(ValueError, match="at most 2147483646 potential"):
        SparseDense(2**16, 1e-6).build((None, 2**16))
    with pytest.raises(ValueError, match="built `keras.layers.Dense`"):
        SparseDense.from_dense(layers.Dense(3))
    zeros = layers.Dense(3, kernel_initializer="zeros")
    zeros.build((None, 4))
    with pytest.raises(ValueError, match="a weight that is not 0"):
        SparseDense.from_dense(zeros)
    with pytest.raises(ValueError, match="`budget` must be 'layer' for layers"):
        DeepR(optimizers.SGD(0.1), budget="global").build(
            built(6, 0.3).trainable_variables
        )
