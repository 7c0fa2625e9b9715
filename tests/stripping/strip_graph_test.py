"""Strip on graphs with branches, built by hand."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.layers import L0Conv2D
from l0keras.layers import L0Dense
from tests.stripping.random_graph import outputs
from tests.stripping.random_graph import random_inputs


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def randomize(model, rng):
    """Moves all weights but those of gates, which are left open."""
    for layer in model._flatten_layers():
        for weight in layer.weights:
            shape = tuple(weight.shape)
            if weight.name == "log_alpha":
                weight.assign(np.full(shape, 3.0))
            elif "variance" in weight.name:
                weight.assign(rng.uniform(0.5, 2.0, shape))
            else:
                weight.assign(rng.normal(size=shape))


def close(gate, indices):
    log_alpha = ops.convert_to_numpy(gate.log_alpha).copy()
    log_alpha[indices] = -5.0
    gate.log_alpha.assign(log_alpha)


def silence(layer, units, bias=0.0):
    """Makes units of a layer the same number for any input."""
    weights = layer.get_weights()
    weights[0][..., units] = 0.0
    if len(weights) > 1:
        weights[1][units] = bias
    layer.set_weights(weights)


def ignore(layer, inputs):
    """Has a layer ignore some of its inputs."""
    weights = layer.get_weights()
    weights[0][..., inputs, :] = 0.0
    layer.set_weights(weights)


def strip(model, rng, tolerance=1e-5, **kwargs):
    """Strips a model and checks what comes out, also once more."""
    stripped = l0keras.strip(model, **kwargs)
    x = random_inputs(model, rng)
    keras.tree.assert_same_structure(model.output, stripped.output)
    expected = outputs(model, x)
    again = l0keras.strip(stripped, **kwargs)
    for small in (stripped, again):
        for got, y in zip(outputs(small, x), expected, strict=True):
            scale = max(1.0, np.abs(y.astype("float32")).max())
            np.testing.assert_allclose(
                got.astype("float32"),
                y.astype("float32"),
                rtol=0,
                atol=tolerance * scale,
            )
    assert again.count_params() == stripped.count_params()
    for layer in stripped._flatten_layers():
        assert not type(layer).__module__.startswith("l0keras")
    str(l0keras.report(model, stripped))
    return stripped


def names(model):
    return [operation.name for operation in model.operations]


def warnings_of(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


# === What is to be cut ===


def residual(offset):
    """A residual block whose branch ends in a gate."""
    inputs = keras.Input((5, 5, 4), name="inputs")
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    y = L0Conv2D(8, 3, padding="same", name="first")(x)
    y = layers.ReLU(name="relu")(y)
    y = L0Conv2D(
        6,
        3,
        padding="same",
        granularity="output",
        use_bias=False,
        name="second",
    )(y)
    if offset:
        y = layers.BatchNormalization(name="norm")(y)
    x = layers.Add(name="add")([x, y])
    x = layers.Conv2D(3, 3, name="reader")(x)
    return keras.Model(inputs, x)


def test_a_closed_branch_disappears(rng):
    model = residual(offset=False)
    randomize(model, rng)
    close(model.get_layer("second").gate, slice(None))
    stripped = strip(model, rng)
    assert names(stripped) == ["inputs", "stem", "reader"]


def test_of_a_branch_that_is_constant_an_offset_stays(rng):
    model = residual(offset=True)
    randomize(model, rng)
    close(model.get_layer("second").gate, slice(None))
    stripped = strip(model, rng)
    assert names(stripped) == ["inputs", "stem", "add", "reader"]
    offset = stripped.get_layer("add")
    assert isinstance(offset, layers.Rescaling)
    norm = model.get_layer("norm")
    gamma, beta, mean, variance = norm.get_weights()
    np.testing.assert_allclose(
        np.reshape(offset.offset, -1),
        beta - gamma * mean / np.sqrt(variance + norm.epsilon),
        rtol=1e-5,
    )
    assert np.all(np.asarray(offset.scale) == 1)


def test_the_input_of_a_branch_that_is_gone_stays_an_input(rng):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    x = layers.Add()([layers.Dense(2)(a), layers.Dense(2, name="gone")(b)])
    model = keras.Model({"a": a, "b": b}, layers.Dense(2)(x))
    randomize(model, rng)
    silence(model.get_layer("gone"), slice(None))
    stripped = strip(model, rng)
    assert "gone" not in names(stripped)
    assert set(stripped.input) == {"a", "b"}


@pytest.mark.parametrize("keepdims", [True, False])
def test_squeeze_and_excite_is_cut_with_its_branch(rng, keepdims):
    inputs = keras.Input((5, 5, 3))
    x = L0Conv2D(6, 3, granularity="output", name="conv")(inputs)
    s = layers.GlobalAveragePooling2D(keepdims=keepdims)(x)
    s = layers.Dense(4, activation="relu", name="squeeze")(s)
    s = layers.Dense(6, activation="sigmoid", name="excite")(s)
    if not keepdims:
        s = layers.Reshape((1, 1, 6))(s)
    x = layers.Multiply()([x, s])
    x = layers.Conv2D(2, 3, padding="same", name="reader")(x)
    model = keras.Model(inputs, x)
    randomize(model, rng)
    close(model.get_layer("conv").gate, [0, 1, 4])
    stripped = strip(model, rng)
    assert stripped.get_layer("conv").filters == 3
    assert stripped.get_layer("squeeze").kernel.shape == (3, 4)
    assert stripped.get_layer("excite").units == 3
    assert stripped.get_layer("reader").kernel.shape == (3, 3, 3, 2)


def test_a_layer_that_is_called_three_times_keeps_what_any_call_needs(rng):
    inputs = [keras.Input((5,), name=name) for name in "abc"]
    shared = layers.Dense(6, activation="relu", name="shared")
    readers = [layers.Dense(2, name=f"reader_{name}") for name in "abc"]
    x = [read(shared(x)) for read, x in zip(readers, inputs)]
    model = keras.Model(inputs, layers.Concatenate()(x))
    randomize(model, rng)
    for reader, unread in zip(readers, ([0, 1, 2], [0, 1, 3], [0, 1, 4])):
        ignore(reader, unread)
    ignore(shared, [3])
    stripped = strip(model, rng)
    assert stripped.get_layer("shared").kernel.shape == (4, 4)
    assert len(stripped.get_layer("shared")._inbound_nodes) == 3


def test_a_gate_vector_cuts_all_layers_that_it_ties(rng):
    inputs = keras.Input((6, 6, 3))
    gates = SharedGate(8, name="gates")(inputs)
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs) * gates
    for i in range(2):
        y = layers.ReLU()(x)
        y = layers.Conv2D(5, 3, padding="same", name=f"inner_{i}")(y)
        y = layers.Conv2D(8, 3, padding="same", name=f"outer_{i}")(y)
        x = layers.Add()([x, y * gates])
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    head = layers.Dense(2, name="head")
    model = keras.Model(inputs, head(model.output))
    randomize(model, rng)
    close(model.get_layer("gates"), [0, 3, 4, 6, 7])
    stripped = strip(model, rng)
    for name in ("stem", "outer_0", "outer_1"):
        assert stripped.get_layer(name).filters == 3
    for name in ("inner_0", "inner_1"):
        assert stripped.get_layer(name).kernel.shape == (3, 3, 3, 5)
    assert stripped.get_layer("head").kernel.shape == (3, 2)
    # The values of the gates went into the weights.
    assert not any(isinstance(x, layers.Rescaling) for x in stripped.layers)


def test_several_outputs_each_keep_what_they_need(rng):
    inputs = keras.Input((5,))
    x = L0Dense(6, granularity="output", activation="relu", name="a")(inputs)
    y = L0Dense(7, granularity="output", activation="relu", name="b")(x)
    z = layers.Dense(2, name="z")(y)
    model = keras.Model(inputs, {"z": z, "more": [x, inputs]})
    randomize(model, rng)
    for name in "ab":
        close(model.get_layer(name).gate, [1, 2])
    stripped = strip(model, rng)
    # All of what is handed out stays.
    assert stripped.get_layer("a").units == 6
    assert stripped.get_layer("b").kernel.shape == (4, 5)


def test_a_nested_model_that_is_called_twice(rng):
    inner_inputs = keras.Input((4,))
    y = L0Dense(6, granularity="output", name="one")(inner_inputs)
    y = layers.ReLU()(y)
    y = layers.Dense(4, name="two")(y)
    inner = keras.Model(inner_inputs, layers.Add()([inner_inputs, y]))
    inputs = keras.Input((4,))
    x = inner(layers.Dense(4)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(inner(x)))
    randomize(model, rng)
    close(inner.get_layer("one").gate, [0, 5])
    stripped = strip(model, rng)
    assert stripped.get_layer("one").kernel.shape == (4, 4)
    assert stripped.get_layer("two").kernel.shape == (4, 4)
    assert len(stripped.get_layer("one")._inbound_nodes) == 2


# === What has to stay ===


def test_if_all_is_closed_some_units_stay_and_are_named(rng, caplog):
    inputs = keras.Input((5, 5, 3))
    x = L0Conv2D(4, 3, granularity="output", name="a")(inputs)
    y = L0Conv2D(4, 3, granularity="output", name="b")(inputs)
    x = layers.Add(name="add")([x, y])
    x = layers.Flatten()(x)
    model = keras.Model(inputs, L0Dense(2, name="last")(x))
    randomize(model, rng)
    for gate in l0keras.gates_of(model):
        close(gate, slice(None))
    stripped = strip(model, rng)
    assert stripped.get_layer("last").units == 2
    assert (
        max(
            layer.filters
            for layer in stripped.layers
            if isinstance(layer, layers.Conv2D)
        )
        == 1
    )
    assert any("would lose all of its units" in t for t in warnings_of(caplog))


def test_a_model_without_gates_is_copied(rng):
    model = residual(offset=True)
    plain = l0keras.strip(model)
    randomize(plain, rng)
    stripped = strip(plain, rng)
    assert names(stripped) == names(plain)
    for one, other in zip(plain.get_weights(), stripped.get_weights()):
        np.testing.assert_array_equal(one, other)
    report = l0keras.report(plain, stripped)
    assert report.architecture == "" and not report.kept
    assert all(one == other for one, other in report.total.values())


@pytest.mark.parametrize(
    "policy, tolerance", [("mixed_float16", 1e-2), ("mixed_bfloat16", 6e-2)]
)
def test_mixed_precision_on_branches(rng, policy, tolerance):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((4, 4, 3))
    gates = SharedGate(6)(inputs)
    x = layers.Conv2D(6, 3, padding="same", name="conv")(inputs) * gates
    y = layers.BatchNormalization(name="norm")(x)
    y = layers.Dense(6, activation="tanh", name="dense")(y)
    y = HardConcreteGate()(y)
    x = layers.Add()([x, y])
    x = layers.Concatenate()([x, layers.Conv2D(2, 1)(inputs)])
    x = layers.Dense(2, name="last")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    randomize(model, rng)
    for gate in l0keras.gates_of(model):
        close(gate, [0, 2, 5])
    stripped = strip(model, rng, tolerance)
    assert stripped.get_layer("conv").filters == 3
    for name in ("conv", "norm", "dense", "last"):
        layer = stripped.get_layer(name)
        assert layer.dtype_policy.name == policy
        assert all(weight.dtype == "float32" for weight in layer.weights)


def test_weights_that_are_not_finite_are_refused_by_name(rng):
    model = residual(offset=True)
    variance = model.get_layer("norm").moving_variance
    variance.assign([1.0, np.inf, 1.0, 1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="'moving_variance' of layer 'norm'"):
        l0keras.strip(model)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.dense = L0Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def test_what_has_no_graph_is_refused():
    with pytest.raises(ValueError, match="'subclassed' of type Subclassed"):
        l0keras.strip(Subclassed())
    model = keras.Sequential([L0Dense(2)], name="unbuilt")
    with pytest.raises(ValueError, match="'unbuilt', not built"):
        l0keras.strip(model)


# === What broke ===


def merged(rng, merge, *others, **dense):
    """Two dense layers, merged, and one more."""
    inputs = keras.Input((4,))
    x = [layers.Dense(3, name=name, **dense)(inputs) for name in "ab"]
    reader = layers.Dense(2, name="reader")
    model = keras.Model(inputs, reader(merge(x)))
    randomize(model, rng)
    return model


@pytest.mark.parametrize("kind", [layers.Add, layers.Concatenate])
def test_a_merge_of_which_nothing_is_read(rng, caplog, kind):
    model = merged(rng, kind(name="merge"))
    silence(model.get_layer("a"), [1])
    silence(model.get_layer("b"), [2])
    ignore(model.get_layer("reader"), [0, 1, 2])
    if kind is layers.Concatenate:
        ignore(model.get_layer("reader"), [3, 4, 5])
    stripped = strip(model, rng)
    assert stripped.get_layer("reader").kernel.shape == (1, 2)
    assert "b" not in names(stripped)
    lost = "merge" if kind is layers.Concatenate else "a"
    assert f"Layer '{lost}' would lose all" in " ".join(warnings_of(caplog))


def test_a_difference_with_zero_is_no_gate_to_fold_into_a_relu(rng):
    model = merged(rng, layers.Subtract(), activation="relu")
    silence(model.get_layer("a"), slice(None))
    stripped = strip(model, rng)
    assert "a" not in names(stripped)


def test_gates_in_a_nested_model_that_is_called_twice(rng):
    """Both calls turn their products into scalings: one name each."""
    inner_inputs = keras.Input((4,))
    gates = SharedGate(4)(inner_inputs)
    x = layers.Dense(4, activation="tanh")(inner_inputs) * gates
    inner = keras.Model(inner_inputs, layers.Dense(4)(x) * gates)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inner(inner(inputs)))
    randomize(model, rng)
    close(l0keras.gates_of(model)[0], [1])
    strip(model, rng)


def test_a_gate_vector_where_no_scaling_can_stand_for_it(rng):
    """All of what it multiplies is constant, and is handed out."""
    inputs = keras.Input((4,))
    gates = SharedGate(3, name="gates")(inputs)
    x = layers.Dense(3, name="dense")(inputs)
    flipped = ops.flip(gates, axis=-1)
    model = keras.Model(inputs, [x * gates, x + flipped])
    randomize(model, rng)
    close(model.get_layer("gates"), [1])
    silence(model.get_layer("dense"), slice(None), bias=2.0)
    strip(model, rng)


def test_dead_calls_of_a_shared_layer(rng):
    """What is left of it still gets its weights, and need not agree."""
    inputs = [keras.Input((4,), name=name) for name in "ab"]
    shared = layers.Dense(3, name="shared")
    first = shared(layers.Dense(4, name="first")(inputs[0]))
    x = layers.Concatenate()([first, shared(inputs[1])])
    model = keras.Model(inputs, layers.Dense(2, name="reader")(x))
    randomize(model, rng)
    ignore(model.get_layer("reader"), [0, 1, 2, 4])
    stripped = strip(model, rng)
    assert "first" not in names(stripped)
    assert stripped.get_layer("shared").kernel.shape == (4, 2)


def test_a_product_with_a_number_is_not_sparse(rng):
    """Keras says so, and sparse tensors are not cut."""
    model = merged(rng, lambda x: layers.Add()([x[0] * 2.0, x[1]]))
    ignore(model.get_layer("reader"), [1])
    stripped = strip(model, rng)
    assert stripped.get_layer("a").units == 2


def test_units_of_a_shared_layer_are_rounded_together(rng):
    inputs = [keras.Input((9,), name=name) for name in "ab"]
    shared = layers.Dense(12, name="shared")
    readers = [layers.Dense(2, name=name) for name in "cd"]
    model = keras.Model(
        inputs, [read(shared(x)) for read, x in zip(readers, inputs)]
    )
    randomize(model, rng)
    ignore(readers[0], list(range(2, 12)))
    ignore(readers[1], [*range(7), *range(9, 12)])
    stripped = strip(model, rng, round_to=4)
    assert stripped.get_layer("shared").units == 4


def test_a_reshape_that_moves_examples(rng):
    inputs = keras.Input((4, 6))
    x = layers.Dense(6, name="dense")(inputs)
    x = ops.reshape(x, (-1, 12))
    model = keras.Model(inputs, layers.Dense(2, name="reader")(x))
    randomize(model, rng)
    ignore(model.get_layer("reader"), [0])
    strip(model, rng)


def test_ops_without_a_configuration(rng):
    limits = np.array([0.5, 1.0, 2.0], "float32")
    model = merged(rng, lambda x: ops.clip(x[0], -limits, limits))
    ignore(model.get_layer("reader"), [1])
    strip(model, rng)


def test_a_constant_that_is_infinite_is_not_known(rng):
    inputs = keras.Input((4,))
    x = layers.Dense(3, activation="exponential", name="dense")(inputs)
    model = keras.Model(inputs, ops.minimum(x, 1.0))
    randomize(model, rng)
    silence(model.get_layer("dense"), [0], bias=1000.0)
    strip(model, rng)


def test_outputs_keep_their_names(rng):
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="dense")(inputs)
    y = layers.Dense(3, name="gone")(inputs)
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="inner")
    model = keras.Model(
        inputs, [layers.Add(name="sum")([x, y]), inner(inputs), inputs]
    )
    randomize(model, rng)
    silence(model.get_layer("gone"), slice(None))
    stripped = strip(model, rng)
    assert "gone" not in names(stripped)
    assert stripped.output_names == model.output_names
    assert stripped.output_names[:2] == ["sum", "inner"]


def test_a_constant_that_was_counted_on_stays_when_a_sum_is_simplified(rng):
    """Unit 1 is constant, unit 2 unread: then `b` is but an offset."""
    model = merged(rng, layers.Add(name="add"))
    silence(model.get_layer("a"), [1], bias=0.5)
    silence(model.get_layer("b"), [0, 1], bias=0.25)
    ignore(model.get_layer("reader"), [2])
    stripped = strip(model, rng)
    assert "b" not in names(stripped)
    assert stripped.get_layer("a").units == 1


def test_of_constant_branches_only_one_stays(rng):
    model = merged(rng, layers.Maximum(name="merge"))
    for name in "ab":
        silence(model.get_layer(name), slice(None), bias=0.5)
    stripped = strip(model, rng)
    assert "b" not in names(stripped)


def test_an_op_that_is_not_called_any_more_leaves_the_output_its_name(rng):
    inputs = keras.Input((4,))
    x = layers.ReLU()(layers.Dense(3, name="dense")(inputs))
    model = keras.Model(inputs, ops.take(x, [1], axis=-1))
    randomize(model, rng)
    stripped = strip(model, rng)
    assert stripped.get_layer("dense").units == 1
    assert stripped.output_names == model.output_names


def test_what_stands_in_is_not_rounded_up_with_other_branches(rng):
    """All outputs are constants, so that any one channel will do."""
    inputs = keras.Input((4,))
    a = layers.Dense(2, name="a")(inputs)
    b = layers.Dense(3, name="b")(a)
    c = layers.Dense(5, name="c")(a)
    x = ops.tanh(layers.Concatenate()([a, b, c]))
    x = layers.Concatenate()([x, x])
    model = keras.Model(inputs, layers.Dense(2, name="reader")(x))
    randomize(model, rng)
    for name in ("b", "c", "reader"):
        silence(model.get_layer(name), slice(None), bias=0.5)
    stripped = strip(model, rng, round_to=4)
    assert "c" not in names(stripped)


@pytest.mark.parametrize("join", [False, True])
def test_units_that_rounding_adds_are_read(rng, join):
    """To leave them out again would be no use."""
    inputs = keras.Input((5,))
    x = layers.Dense(8, name="a")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    if join:
        x = layers.Concatenate()([x, layers.Dense(4, name="b")(inputs)])
    model = keras.Model(inputs, layers.Dense(3, name="reader")(x))
    randomize(model, rng)
    ignore(model.get_layer("reader"), [0, 1, 3])
    stripped = strip(model, rng, round_to=4)
    assert not [name for name in names(stripped) if "inputs" in name]
    assert stripped.get_layer("norm").gamma.shape == (8,)
    assert stripped.get_layer("reader").kernel.shape == (8 + 4 * join, 3)


@pytest.mark.parametrize("kind", ["normalization", "convolution"])
def test_groups_leave_out_units_that_rounding_adds(rng, kind):
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(12, 1, name="conv")(inputs)
    if kind == "normalization":
        x = layers.GroupNormalization(4, name="groups")(x)
    else:
        x = layers.Conv2D(8, 1, groups=4, name="groups")(x)
    model = keras.Model(inputs, layers.Dense(2, name="reader")(x))
    randomize(model, rng)
    half = x.shape[-1] // 2
    ignore(model.get_layer("reader"), list(range(half, 2 * half)))
    stripped = strip(model, rng, round_to=4)
    assert stripped.get_layer("conv").filters == 8
    assert stripped.get_layer("groups").groups == 2


def test_a_unit_that_stands_in_reads_nothing(rng):
    """Of `reader` all is constant; what it reads only has to be there."""
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 3, padding="same", name="a")(inputs)
    x = layers.Conv2D(5, 3, padding="same", name="b")(x)
    y = layers.Conv2D(5, 3, padding="same", name="c")(x)
    x = layers.Average(name="merge")([x, y])
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="reader")(x))
    randomize(model, rng)
    ignore(model.get_layer("reader"), slice(None))
    stripped = strip(model, rng)
    assert stripped.get_layer("a").filters == 1
    assert stripped.get_layer("b").filters == 1
    assert "c" not in names(stripped)


def test_a_unit_of_which_only_its_place_is_read_reads_nothing(rng):
    """A closed gate does not fold into it, and a sum needs its place."""
    inputs = keras.Input((4,))
    x = layers.Dense(6, name="a")(inputs)
    x = layers.Dense(4, activation="softplus", name="b")(x)
    x = HardConcreteGate(name="gate")(x)
    x = layers.Add(name="add")([x, inputs])
    model = keras.Model(inputs, layers.Dense(2, name="reader")(x))
    randomize(model, rng)
    close(model.get_layer("gate"), [0, 1, 2])
    kernel, bias = model.get_layer("b").get_weights()
    kernel[2:, 3] = 0.0
    model.get_layer("b").set_weights([kernel, bias])
    stripped = strip(model, rng)
    assert stripped.get_layer("a").units == 2
    assert stripped.get_layer("b").units == 4


def test_what_stands_in_is_not_of_a_call_that_is_gone(rng):
    """Once `b` reads nothing, any channel of the concatenation would do."""
    inputs = [keras.Input((3,), name=name) for name in "xy"]
    shared = layers.Dense(2, name="shared")
    first = shared(layers.Dense(3, name="dense")(inputs[1]))
    x = layers.Concatenate()([inputs[0], first])
    a = layers.Dense(2, activation="softplus", name="a")(x)
    b = layers.Dense(2, activation="softplus", name="b")(a)
    model = keras.Model(
        inputs,
        [layers.Dense(2, name="reader")(b), shared(inputs[0])],
    )
    randomize(model, rng)
    silence(shared, slice(None), bias=0.5)
    ignore(model.get_layer("a"), [3, 4])
    ignore(model.get_layer("reader"), slice(None))
    stripped = strip(model, rng)
    assert "dense" not in names(stripped)


def test_of_a_wide_input_one_channel_stands_in(rng):
    """Also after all that was in between is gone."""
    inputs = keras.Input((5, 1))
    x = layers.Concatenate()([inputs, inputs])
    x = layers.Flatten()(x)
    model = keras.Model(inputs, layers.Dense(6, name="reader")(x))
    randomize(model, rng)
    ignore(model.get_layer("reader"), slice(None))
    stripped = strip(model, rng, round_to=8)
    assert stripped.get_layer("reader").kernel.shape == (1, 6)


def test_a_unit_that_stands_in_twice(rng):
    """One reader has groups, which selects; the other one need not."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, name="conv")(inputs)
    y = layers.Conv2D(12, 1, groups=3, name="groups")(x)
    z = layers.Conv2D(2, 1, name="plain")(x)
    reader = layers.Conv2D(2, 2, padding="same", name="reader")
    model = keras.Model(inputs, [reader(y), z])
    randomize(model, rng)
    for name in ("groups", "plain"):
        ignore(model.get_layer(name), slice(None))
    ignore(reader, list(range(4, 12)))
    strip(model, rng, round_to=4)


def test_a_merge_follows_what_it_reads_when_a_gate_is_folded(rng):
    """The product is not needed; with `b` at 0 it is but a scaling."""
    inputs = keras.Input((3,))
    x = HardConcreteGate(name="gate")(layers.Dense(3, name="b")(inputs))
    x = layers.Multiply(name="product")([inputs, x])
    x = layers.Multiply(name="square")([x, x])
    x = HardConcreteGate(name="last")(x)
    model = keras.Model(inputs, x)
    randomize(model, rng)
    close(model.get_layer("last"), slice(None))
    stripped = strip(model, rng)
    assert not stripped.count_params()


def test_a_merge_selects_no_more_than_it_needs(rng):
    """Both branches have all six units, in other places of what is read."""
    inputs = keras.Input((4,))
    a = layers.Dense(6, activation="softmax", name="a")(inputs)
    b = layers.Dense(6, activation="softmax", name="b")(inputs)
    b = layers.Concatenate()([b, layers.Dense(2, name="c")(inputs)])
    a = layers.Concatenate()([layers.Dense(2, name="d")(inputs), a])
    x = layers.Maximum(name="merge")([a, b])
    model = keras.Model(inputs, layers.Dense(2, name="reader")(x))
    randomize(model, rng)
    ignore(model.get_layer("reader"), [0, 2, 3, 4])
    stripped = strip(model, rng)
    assert stripped.get_layer("reader").kernel.shape == (4, 2)
    assert stripped.get_layer("merge").output.shape == (None, 4)


def tower():
    return keras.Sequential(
        [
            keras.Input((9, 9, 2)),
            layers.Conv2D(6, 3, activation="relu", name="first"),
            layers.MaxPooling2D(),
            layers.Conv2D(5, 3, activation="relu", name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, name="third"),
        ]
    )


def scalings(model):
    """The operations that only multiply channels by numbers."""
    return [
        operation.name
        for operation in model.operations
        if isinstance(operation, (HardConcreteGate, layers.Rescaling))
    ]


def graded(gates):
    """Gates from closed to open, with values between."""
    for gate in gates:
        size = gate.log_alpha.shape[0]
        gate.log_alpha.assign(np.linspace(-8, 2, size))


@pytest.mark.parametrize("calls", [2, 3])
def test_calls_of_a_layer_with_the_same_gates_fold_them_once(rng, calls):
    own = tower()
    inputs = [keras.Input((9, 9, 2)) for _ in range(calls)]
    x = layers.Concatenate()([own(x) for x in inputs])
    gated = l0keras.sparsify(keras.Model(inputs, x))
    randomize(gated, rng)
    graded(l0keras.gates_of(gated))
    stripped = strip(gated, rng)
    assert scalings(stripped) == []
    # Of -8 to 2, those above -2.4.
    assert stripped.get_layer("first").filters == 3
    assert len(stripped.get_layer("first")._inbound_nodes) == calls
    assert "scaling" not in str(l0keras.report(gated, stripped))
    alone = l0keras.sparsify(own)
    graded(l0keras.gates_of(alone))
    alone = l0keras.strip(alone)
    assert stripped.count_params() == alone.count_params()


class Scaled:
    """Two calls of a dense layer, each with a scaling behind or in front."""

    def __init__(self, gates, before):
        inputs = [keras.Input((4,), name=name) for name in "ab"]
        shared = layers.Dense(
            4, activation="tanh" if before else "relu", name="shared"
        )
        ends = [layers.Dense(3, activation="tanh", name=n) for n in "cd"]
        outputs = []
        for x, gate, end in zip(inputs, gates, ends):
            x = layers.Activation("tanh")(x)
            if before:
                x = shared(gate(x))
            else:
                x = layers.Activation("tanh")(gate(shared(x)))
            outputs.append(end(x))
        self.model = keras.Model(inputs, outputs)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    "values, stays",
    [
        # Two gates of the same values; of others; and only one of them.
        ([[-9.0, -1, 1, 9]] * 2, False),
        ([[-9.0, -1, 1, 9], [-9.0, -1, 0, 9]], True),
        ([[-9.0, -1, 1, 9], None], True),
    ],
)
def test_calls_of_a_layer_with_gates_of_their_own(rng, values, stays, before):
    gates = [
        layers.Identity() if one is None else HardConcreteGate(name=f"gate{i}")
        for i, one in enumerate(values)
    ]
    model = Scaled(gates, before).model
    randomize(model, rng)
    for gate, one in zip(gates, values):
        if one is not None:
            gate.log_alpha.assign(one)
    stripped = strip(model, rng)
    assert bool(scalings(stripped)) == stays
    text = str(l0keras.report(model, stripped))
    said = "'shared' is called 2 times, and not with the same gates" in text
    assert said == stays


def test_gates_in_front_and_behind_of_a_layer_that_calls_itself(rng):
    """The product of all gates of a call has to be the same."""
    inputs = keras.Input((4,))
    shared = layers.Dense(4, activation="relu", name="shared")
    gates = [HardConcreteGate(name=f"gate{i}") for i in range(2)]
    x = gates[0](shared(inputs))
    x = layers.LeakyReLU()(x)
    x = layers.Activation("tanh")(gates[1](x))
    y = gates[0](shared(layers.Activation("tanh")(x)))
    y = layers.Activation("tanh")(gates[1](y))
    model = keras.Model(inputs, y)
    randomize(model, rng)
    for gate in gates:
        gate.log_alpha.assign([0.5, -1, 1, 9])
    assert scalings(strip(model, rng)) == []
