import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras.gates import gates_of
from l0keras.shrinking.shrink import shrink_parts
from tests.shrinking.agreement import check_agreement
from tests.shrinking.agreement import close_some

STEPS = 2


def network():
    """A residual stream behind batch normalization, and a dense layer."""
    inputs = keras.Input((6, 6, 2), name="images")
    conv = {"padding": "same", "use_bias": False}
    x = keras.layers.Conv2D(6, 3, **conv, name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    x = keras.layers.ReLU(name="stem_relu")(x)
    y = keras.layers.Conv2D(5, 3, **conv, name="inner")(x)
    y = keras.layers.BatchNormalization(name="inner_bn")(y)
    y = keras.layers.ReLU(name="inner_relu")(y)
    y = keras.layers.Conv2D(6, 3, padding="same", name="outer")(y)
    x = keras.layers.Add(name="sum")([x, y])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(7, activation="relu", name="hidden")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def data(model, steps=STEPS, batch=8, seed=0):
    rng = np.random.default_rng(seed)
    count = steps * batch
    x = rng.normal(size=(count, *model.input_shape[1:])).astype("float32")
    return x, rng.integers(0, 3, count)


def train(model, x, y, batch=8):
    history = model.fit(x, y, batch_size=batch, shuffle=False, verbose=0)
    return history.history["loss"][-1]


def prepared(gated, optimizer, seed=0):
    """A model that was trained for some steps, with closed gates."""
    gated.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Tracing both models takes longer than their few steps.
        run_eagerly=keras.backend.backend() == "tensorflow",
    )
    train(gated, *data(gated))
    close_some(gated, np.random.default_rng(seed))
    l0keras.close_gates(gated, below=1e-9)
    return gated


def check_goes_on(gated, tolerance=1e-4):
    """Trains a model and what is left of it; returns the latter."""
    smaller, origins = shrink_parts(gated)
    assert smaller.count_params() < gated.count_params()
    check_agreement(gated, smaller, origins, 0)
    x, y = data(gated, seed=1)
    assert train(smaller, x, y) == pytest.approx(train(gated, x, y), rel=1e-4)
    check_agreement(gated, smaller, origins, tolerance)
    return smaller


def momentum(**kwargs):
    return keras.optimizers.SGD(0.05, momentum=0.9, **kwargs)


OPTIMIZERS = {
    "momentum": momentum,
    "adam": lambda: keras.optimizers.Adam(3e-3, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(1e-2, 20), weight_decay=0.1
    ),
    "ema": lambda: keras.optimizers.Nadam(3e-3, use_ema=True, ema_momentum=0.9),
    "accumulation": lambda: momentum(gradient_accumulation_steps=2),
    "clipped": lambda: momentum(global_clipnorm=0.1),
    "groups": lambda: l0keras.optimizers.OptimizerGroups(
        [
            ("log_alpha|gate", keras.optimizers.Adam(1e-2)),
            (".", momentum(use_ema=True)),
        ]
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_slots_go_on(name):
    if name in ("ema", "groups") and keras.backend.backend() == "jax":
        pytest.skip("Keras cannot call `fit` twice with averages on JAX")
    gated = l0keras.sparsify(network(), l0=1e-3)
    check_goes_on(prepared(gated, OPTIMIZERS[name]()))


def test_weight_decay_does_not_open_gates():
    gated = prepared(
        l0keras.sparsify(network()),
        keras.optimizers.AdamW(0.1, weight_decay=0.9),
    )
    before = [gate.closed_for_good() for gate in gates_of(gated)]
    train(gated, *data(gated))
    for gate, closed in zip(gates_of(gated), before):
        np.testing.assert_array_equal(gate.closed_for_good(), closed)


def test_mixed_precision_keeps_the_loss_scale():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        gated = l0keras.sparsify(network(), l0=1e-3)
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(1e-3), initial_scale=64.0
        )
        smaller = check_goes_on(prepared(gated, optimizer), 5e-3)
    finally:
        keras.config.set_dtype_policy(policy)
    assert float(smaller.optimizer.dynamic_scale) == 64.0
    assert smaller.optimizer.step_counter.numpy() == 2 * STEPS


@pytest.mark.parametrize(
    "arguments",
    [
        {"dependence": "forward", "l0": 1e-3},
        {"dependence": "backward", "penalty": "separate", "l0": 1e-3},
        {
            "target": l0keras.targets.Target("params", share=0.3),
            "steps": 2 * STEPS,
        },
    ],
)
def test_generated_gates_go_on(arguments):
    gated = l0keras.sparsify(network(), **arguments)
    smaller = check_goes_on(prepared(gated, keras.optimizers.Adam(1e-2)))
    if "target" in arguments:
        budget = smaller.get_layer("gate_budget")
        assert budget.step.numpy() == 2 * STEPS
        assert budget.at_most == gated.get_layer("gate_budget").at_most
        assert float(budget.offsets[0]) > 0


def layers_by_hand():
    layers = l0keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.L0Conv2D(6, 3, activation="relu", l0=1e-4, l2=1e-3),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            layers.L0Dense(
                9, activation="relu", l0=1e-4, l2=1e-3, sample_per="example"
            ),
            layers.L0Dense(7, activation="tanh", granularity="output"),
            layers.L0Dense(5, granularity="weight", l0=1e-4),
            layers.L0Dense(3),
        ]
    )


def recurrent():
    inputs = keras.Input((5, 4))
    x = keras.layers.LSTM(6, return_sequences=True)(inputs)
    x, state = keras.layers.GRU(5, return_sequences=True, return_state=True)(x)
    x = keras.layers.GRU(5)(x, initial_state=state)
    y = keras.layers.Bidirectional(keras.layers.SimpleRNN(4))(inputs)
    x = keras.layers.Concatenate()([x, y])
    return l0keras.sparsify(
        keras.Model(inputs, keras.layers.Dense(3)(x)), l0=1e-3
    )


def attention(**arguments):
    inputs = keras.Input((5, 8))
    x = keras.layers.MultiHeadAttention(4, 3)(inputs, inputs)
    x = keras.layers.Add()([inputs, x])
    x = keras.layers.LayerNormalization()(x)
    y = keras.layers.Dense(10, activation="gelu")(x)
    x = keras.layers.Add()([x, keras.layers.Dense(8)(y)])
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    return l0keras.sparsify(model, **arguments)


class Block(keras.layers.Layer):
    """A layer of one's own, with variables and a layer inside."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 6))
        self.scale = self.add_weight(shape=(6,))
        self.inner = keras.layers.Dense(5, activation="relu")
        self.inner.build((None, 6))

    def call(self, inputs):
        return self.inner(
            ops.relu(ops.matmul(inputs, self.kernel)) * self.scale
        )


def opened():
    inputs = keras.Input((4,))
    x = Block()(keras.layers.Dense(6, activation="relu")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    return l0keras.sparsify(model, l0=1e-3)


def kept_closed():
    """A layer that loses all of its gates but one, and a whole branch."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, activation="relu")(inputs)
    y = keras.layers.Dense(5, activation="relu")(x)
    y = l0keras.HardConcreteGate(name="branch")(y)
    y = keras.layers.Dense(6, activation="relu")(y)
    y = l0keras.HardConcreteGate(name="end")(y)
    x = keras.layers.Add()([x, y])
    x = l0keras.HardConcreteGate()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


@pytest.mark.parametrize(
    "make",
    [
        layers_by_hand,
        recurrent,
        attention,
        lambda: attention(
            target=l0keras.targets.Target("params", share=0.3), steps=9
        ),
        opened,
    ],
)
def test_kinds_of_layers(make):
    keras.utils.set_random_seed(1)
    smaller = check_goes_on(prepared(make(), momentum()))
    # And once more, from the smaller one.
    close_some(smaller, np.random.default_rng(1))
    l0keras.close_gates(smaller, below=1e-9)
    check_goes_on(smaller)


def test_closed_branches_leave_with_their_gates():
    gated = kept_closed()
    gated.compile(momentum(), "mse", run_eagerly=True)
    end = gated.get_layer("end")
    end.close(np.ones(6, bool))
    closed = l0keras.close_gates(gated, below=1e-9)
    # Nobody reads the gates in front of it any more.
    assert [mask.sum() for mask in closed] == [5, 6, 0]
    smaller = l0keras.shrink(gated)
    assert len(gates_of(smaller)) == 1
    assert smaller.count_params() == 4 * 6 + 6 + 6 + 6 * 3 + 3


def test_shrinks_in_turns_and_strips_to_the_same():
    gated = prepared(l0keras.sparsify(network(), l0=1e-3), momentum())
    smaller = l0keras.shrink(gated)
    x, _ = data(gated)
    one, other = l0keras.strip(gated), l0keras.strip(smaller)
    assert one.count_params() == other.count_params()
    np.testing.assert_allclose(
        one.predict(x, verbose=0), other.predict(x, verbose=0), atol=1e-5
    )
    assert l0keras.shrink(smaller) is smaller


def test_saves_and_loads(tmp_path):
    gated = prepared(l0keras.sparsify(network(), l0=1e-3), momentum())
    smaller = l0keras.shrink(gated)
    path = tmp_path / "smaller.keras"
    smaller.save(path)
    loaded = keras.saving.load_model(path)
    for one, other in zip(loaded.variables, smaller.variables, strict=True):
        # Keras does not save the state of random generators.
        if "seed" not in one.path:
            np.testing.assert_array_equal(
                ops.convert_to_numpy(one), ops.convert_to_numpy(other)
            )
        one.assign(other)
    x, y = data(gated)
    assert train(loaded, x, y) == pytest.approx(train(smaller, x, y), rel=1e-5)


def test_the_model_is_not_changed():
    gated = prepared(l0keras.sparsify(network(), l0=1e-3), momentum())
    before = [ops.convert_to_numpy(v) for v in gated.variables]
    slots = [ops.convert_to_numpy(v) for v in gated.optimizer.variables]
    smaller = l0keras.shrink(gated)
    train(smaller, *data(gated))
    for array, variable in zip(before, gated.variables, strict=True):
        np.testing.assert_array_equal(array, ops.convert_to_numpy(variable))
    for array, variable in zip(slots, gated.optimizer.variables, strict=True):
        np.testing.assert_array_equal(array, ops.convert_to_numpy(variable))


def test_widths_are_rounded_up():
    gated = prepared(l0keras.sparsify(network(), l0=1e-3), momentum())
    smaller = l0keras.shrink(gated, round_to=4)
    assert smaller.get_layer("hidden").units in (4, 7)


def test_slots_of_other_shapes_are_refused_by_name():
    gated = l0keras.sparsify(network(), l0=1e-3)
    prepared(gated, keras.optimizers.Adafactor(1e-3))
    with pytest.raises(NotImplementedError, match="Adafactor.*_r"):
        l0keras.shrink(gated)


def test_zeros_that_are_not_of_gates_stay():
    gated = prepared(l0keras.sparsify(network(), l0=1e-3), momentum())
    kernel = gated.get_layer("hidden").kernel
    smaller = l0keras.shrink(gated)
    width = smaller.get_layer("hidden").units
    kernel.assign(ops.zeros_like(kernel))
    assert l0keras.shrink(gated).get_layer("hidden").units == width


def test_looks_ask_for_gates_that_hardly_open():
    gated = l0keras.sparsify(network(), l0=1e-3)
    gate = gates_of(gated)[0]
    values = ops.convert_to_numpy(gate.log_alpha).copy()
    values[:3] = -4.6, -3.0, 1.0
    gate.log_alpha.assign(values)
    first, *others = l0keras.close_gates(gated)
    assert first.sum() == 1 and first[0]
    assert not any(map(np.any, others))
    assert gate.test_gates()[0] == 0 and gate.prob_open()[0] == 0
    nothing = [np.zeros_like(mask) for mask in (first, *others)]
    more = l0keras.close_gates(gated, below=1.0, among=nothing)
    assert sum(mask.sum() for mask in more) == 1
    assert l0keras.close_gates(gated, below=1.0)[0].sum() == 2


@pytest.mark.parametrize("below", [0, -1, 2])
def test_refuses_probabilities_out_of_range(below):
    gated = l0keras.sparsify(network(), l0=1e-3)
    with pytest.raises(ValueError, match=f"Received: below={below}"):
        l0keras.close_gates(gated, below=below)


def test_refuses_models_without_gates():
    with pytest.raises(ValueError, match="without any"):
        l0keras.close_gates(network())


@pytest.mark.parametrize("kind", ["ProximalSGD", "HSPG"])
def test_groups_of_weights_go_on(kind):
    gated = l0keras.sparsify(network(), l0=1e-3)
    optimizer = getattr(l0keras.optimizers, kind)(
        momentum(),
        l0keras.weight_groups(network()),
        l0keras.regularizers.GroupLasso(),
        strength=0.1,
        use_ema=True,
    )
    prepared(gated, optimizer)
    _, origins = shrink_parts(gated)
    left = {id(variable): index for variable, index in origins.values()}
    for variable in gated.trainable_variables:
        # Norms of groups see weights that closed gates make useless, too.
        index = left.get(id(variable))
        if index is not None:
            array = ops.convert_to_numpy(variable)
            only = np.zeros_like(array)
            only.flat[index] = array.flat[index]
            variable.assign(only)
    smaller = check_goes_on(gated)
    assert len(smaller.optimizer.zero_groups()) == len(optimizer.zero_groups())
