"""Layers made of others, and models with a `call`, become parts of a graph."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from keras.src.backend import get_keras_mask
from keras.src.backend import set_keras_mask
from keras.src.models.functional import Functional

import l0keras
from l0keras.graph.trace import trace
from tests.graph.rules import checks


class Block(layers.Layer):
    """A residual block as strangers write one."""

    def __init__(self, width=8, hidden=12):
        super().__init__()
        self.norm = layers.BatchNormalization()
        self.inner = layers.Dense(hidden, activation="relu")
        self.dropout = layers.Dropout(0.5)
        self.outer = layers.Dense(width)

    def call(self, x, training=None):
        h = self.dropout(self.inner(self.norm(x)), training=training)
        return x + self.outer(h)


class Attention(layers.Layer):
    """Attention by hand, with the size of the batch in its shapes."""

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.heads = heads
        self.parts = [layers.Dense(width) for _ in range(3)]

    def _split(self, x, batch):
        shape = (batch, -1, self.heads, x.shape[-1] // self.heads)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    def call(self, x):
        batch = ops.shape(x)[0]
        q, k, v = (self._split(part(x), batch) for part in self.parts)
        scores = ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2)))
        joined = ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3))
        return ops.reshape(joined, (batch, -1, x.shape[-1]))


def gated(model, rng):
    """A model with gates, its weights moved and half of the gates closed."""
    checks.randomize(model, rng, closed=0.0)
    result = l0keras.sparsify(model)
    for gate in l0keras.gates_of(result):
        shut = rng.random(gate.log_alpha.shape) < 0.5
        shut[0] = False
        gate.log_alpha.assign(np.where(shut, -8.0, 3.0))
    return result


def check_road(model, rng):
    """Gates, strips and compares; gives the gated and the stripped model."""
    inputs = checks.inputs_for(model, rng)
    checks.randomize(model, rng, closed=0.0)
    checks.same(
        checks.outputs_of(l0keras.sparsify(model), inputs),
        checks.outputs_of(model, inputs),
    )
    result = gated(model, rng)
    stripped = l0keras.strip(result)
    checks.same(
        checks.outputs_of(stripped, inputs), checks.outputs_of(result, inputs)
    )
    return result, stripped


def closed_reasons(model):
    graph = trace(model)
    return [n.operation.closed for n in graph.nodes if n.operation.closed]


def kinds(model):
    return {type(layer) for layer in model._flatten_layers()}


def test_a_block_is_cut_inside():
    rng = np.random.default_rng(0)
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(2)(Block()(Block()(inputs))))
    result, stripped = check_road(model, rng)
    assert sum(g.log_alpha.shape[0] for g in l0keras.gates_of(result)) == 24
    assert stripped.count_params() < 0.8 * model.count_params()
    assert Block not in kinds(stripped)
    names = [layer.name for layer in result.layers]
    assert len(names) == len(set(names))


def test_dropout_and_statistics_are_for_training_still():
    rng = np.random.default_rng(0)
    inputs = keras.Input((8,))
    model = keras.Model(inputs, Block()(inputs))
    result = l0keras.sparsify(model)
    x = rng.normal(size=(16, 8))
    first, second = (
        checks.to_numpy(result(x, training=True)) for _ in range(2)
    )
    assert np.max(np.abs(first - second)) > 1e-3
    norm = next(
        layer
        for layer in result.layers
        if isinstance(layer, layers.BatchNormalization)
    )
    assert np.any(checks.to_numpy(norm.moving_mean) != 0)


class Quiet(layers.Layer):
    """Leaves it to Keras to tell its dropout that the model trains."""

    def __init__(self):
        super().__init__()
        self.inner, self.dropout = layers.Dense(12), layers.Dropout(0.5)

    def call(self, x):
        return self.dropout(self.inner(x))


class Joins(layers.Layer):
    """Makes a layer of Keras in each call."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(12, activation="relu")

    def call(self, inputs):
        return self.inner(layers.concatenate(inputs))


def test_layers_that_are_made_in_a_call_are_opened():
    rng = np.random.default_rng(0)
    inputs = keras.Input((8,))
    x = Joins()([inputs, layers.Dense(6)(inputs)])
    model = keras.Model(inputs, layers.Dense(2)(x))
    check_road(model, rng)
    assert closed_reasons(model) == []


def test_layers_inside_are_in_the_mode_of_the_model():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(2)(Quiet()(inputs)))
    assert closed_reasons(model) == []
    result = l0keras.strip(model)
    x = np.ones((16, 8), "float32")
    first, second = (
        checks.to_numpy(result(x, training=True)) for _ in range(2)
    )
    assert np.max(np.abs(first - second)) > 1e-3
    np.testing.assert_allclose(result(x), model(x), rtol=0, atol=1e-6)


def test_the_given_model_keeps_its_graph():
    inputs = keras.Input((8,))
    block = Block()
    model = keras.Model(inputs, block(inputs))
    before = {id(v) for v in model.variables}
    nodes = [len(x._inbound_nodes) for x in model._flatten_layers()]
    attributes = {k: id(v) for k, v in vars(block).items()}
    l0keras.strip(l0keras.sparsify(model))
    assert {id(v) for v in model.variables} == before
    assert nodes == [len(x._inbound_nodes) for x in model._flatten_layers()]
    assert attributes == {k: id(v) for k, v in vars(block).items()}


def test_an_unknown_length_cannot_be_in_a_shape_beside_the_batch():
    inputs = keras.Input((None, 8))
    model = keras.Model(inputs, Attention()(inputs))
    assert closed_reasons(model) == [
        "Reshape needs two sizes that are not known"
    ]


def test_sizes_of_the_batch_may_be_in_shapes():
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, Block()(Attention()(inputs)))
    result, _ = check_road(model, rng)
    assert closed_reasons(model) == []
    for batch in (1, 5):
        x = rng.normal(size=(batch, 6, 8))
        np.testing.assert_allclose(
            result(x), l0keras.strip(result)(x), rtol=0, atol=1e-5
        )


def base(training):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    inner = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    outer = keras.Input((6, 6, 3))
    x = layers.Dropout(0.5)(inner(outer, training=training))
    return keras.Model(outer, layers.Dense(2)(x))


@pytest.mark.parametrize("training", [None, False])
def test_a_nested_model_keeps_what_it_is_called_with(training):
    rng = np.random.default_rng(0)
    model = base(training)
    result, stripped = check_road(model, rng)
    assert l0keras.gates_of(result)[0].log_alpha.shape == (8,)
    assert Functional not in {type(layer) for layer in stripped.layers}
    x = rng.normal(size=(4, 6, 6, 3))
    assert moves(result, x) == moves(stripped, x) == moves(model, x)


def moves(model, x):
    """Whether training moves the statistics of a model."""
    (norm,) = (
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
    )
    before = checks.to_numpy(norm.moving_mean)
    model(x, training=True)
    return np.any(checks.to_numpy(norm.moving_mean) != before)


class Frozen(layers.Layer):
    """Calls what it holds for test time, whatever the model does."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x, training=False)


def test_training_false_in_a_call_means_no_dropout():
    rng = np.random.default_rng(0)
    inputs = keras.Input((8,))
    inner = keras.Sequential([layers.Dense(12), layers.Dropout(0.5)])
    model = keras.Model(inputs, layers.Dense(2)(Frozen(inner)(inputs)))
    result, stripped = check_road(model, rng)
    assert l0keras.gates_of(result)[0].log_alpha.shape == (12,)
    x = rng.normal(size=(4, 8))
    first, second = (
        checks.to_numpy(stripped(x, training=True)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("trainable", [True, False])
def test_training_false_in_a_call_means_frozen_statistics(trainable):
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 6, 3))
    base = keras.Sequential(
        [layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization()]
    )
    model = keras.Model(inputs, layers.Flatten()(Frozen(base)(inputs)))
    base.trainable = trainable
    _, stripped = check_road(model, rng)
    x = rng.normal(size=(4, 6, 6, 3))
    assert not moves(model, x) and not moves(stripped, x)
    if trainable:
        (reason,) = closed_reasons(model)
        assert "with training=False" in reason
    else:
        assert closed_reasons(model) == []


def test_what_is_called_in_training_mode_stays():
    reasons = closed_reasons(base(True))
    assert reasons == ["called in training mode"]


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(4, 8)
        self.block = Block()
        self.head = layers.Dense(3)

    def call(self, inputs, training=False):
        x = self.block(self.embedding(inputs["ids"]), training=training)
        x = ops.concatenate([ops.mean(x, axis=1), inputs["more"]], axis=-1)
        return {"logits": self.head(x)}


def test_a_model_with_a_call_becomes_functional():
    rng = np.random.default_rng(0)
    model = Net()
    data = {
        "ids": rng.integers(0, 4, (5, 7)).astype("int32"),
        "more": rng.normal(size=(5, 2)).astype("float32"),
    }
    expected = model(data)["logits"]
    result = l0keras.sparsify(model)
    assert type(result) is Functional
    assert result.input["ids"].dtype == "int32"
    assert result.input["more"].shape == (None, 2)
    np.testing.assert_allclose(
        result(data)["logits"], expected, rtol=0, atol=1e-6
    )
    for gate in l0keras.gates_of(result):
        gate.log_alpha.assign(np.arange(gate.log_alpha.shape[0]) % 2 * 11 - 8.0)
    stripped = l0keras.strip(result)
    np.testing.assert_allclose(
        stripped(data)["logits"], result(data)["logits"], rtol=0, atol=1e-5
    )
    assert stripped.count_params() < 0.7 * model.count_params()
    assert l0keras.report(model, stripped).total["params"] == [
        model.count_params(),
        stripped.count_params(),
    ]


def test_lost_methods_of_a_model_are_said():
    class Own(Net):
        def train_step(self, data):
            return {}

    model = Own()
    model(
        {"ids": np.zeros((1, 7), "int32"), "more": np.zeros((1, 2), "float32")}
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        l0keras.sparsify(model)
    (said,) = (str(w.message) for w in caught if w.category is UserWarning)
    assert "does not have the train_step of that class" in said


def test_a_model_that_was_never_called_is_refused():
    with pytest.raises(ValueError, match="has not been called yet"):
        l0keras.sparsify(Net())


class Branches(layers.Layer):
    def call(self, x):
        return x if ops.sum(x) > 0 else -x


class Loses(layers.Layer):
    def call(self, x):
        self.add_loss(ops.sum(x))
        return x


class OtherInTraining(layers.Layer):
    def call(self, x, training=None):
        return 2 * x if training else x


class Draws(layers.Layer):
    def call(self, x):
        return x + keras.random.normal((1, 8))


class Regularized(layers.Layer):
    def __init__(self):
        super().__init__(activity_regularizer="l2")

    def call(self, x):
        return 2 * x


class ConstantLookup(layers.Layer):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(8, 8)

    def call(self, x):
        indices = ops.convert_to_tensor(np.arange(8))
        return x + ops.mean(self.embedding(indices), axis=0)


class MakesSizes(layers.Layer):
    def call(self, x):
        return x + ops.arange(ops.shape(x)[0], dtype="float32")[:, None]


class HidesMask(layers.Layer):
    """Its embedding makes a mask that Keras cannot tell before it runs."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.ReversibleEmbedding(8, 8, mask_zero=True)

    def call(self, x):
        rows = self.embedding(ops.cast(x > 0, "int32"))
        x = x + ops.sum(rows, axis=-1)
        if get_keras_mask(rows) is not None:
            set_keras_mask(x, get_keras_mask(rows))
        return x


class NumpyInside(layers.Layer):
    def call(self, x):
        return ops.convert_to_tensor(np.abs(ops.convert_to_numpy(x)))

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


class Inner(layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(8)
        self.inner.build((None, 8))


class LosesWeights(Inner):
    def call(self, x):
        self.add_loss(ops.sum(self.inner.kernel))
        return self.inner(x)


class Writes(Inner):
    def call(self, x):
        self.inner.bias.assign_add(ops.ones(8))
        return self.inner(x)


class ReadsKernel(Inner):
    def call(self, x):
        return self.inner(x) @ ops.transpose(self.inner.kernel)


class MultipliesByKernel(Inner):
    def call(self, x):
        return ops.matmul(self.inner(x), self.inner.kernel)


class OtherConstant(Inner):
    def call(self, x, training=None):
        factors = np.ones(2000, "float32")
        factors[1000] += bool(training)
        x = self.inner(x)[:, :1] * ops.convert_to_tensor(factors)
        return x[:, 996:1004]


def layer_in_closure():
    inner = layers.Dense(8)
    inner.build((None, 8))
    return layers.Lambda(lambda x: inner(x))


@pytest.mark.parametrize(
    "layer, reason",
    [
        (Branches, ""),
        (Loses, "add_loss"),
        (OtherInTraining, "does something else in training"),
        (Draws, "draws random numbers"),
        (Writes, "writes to variables"),
        (LosesWeights, "adds losses"),
        (ReadsKernel, "read where its graph does not show it"),
        (MultipliesByKernel, "read where its graph does not show it"),
        (OtherConstant, "does something else in training"),
        (layer_in_closure, "is no attribute of it"),
        (Regularized, "activity regularizer"),
        (ConstantLookup, "read where its graph does not show it"),
        (MakesSizes, "a size that is not known"),
        (HidesMask, "masks that its graph does not show"),
        (NumpyInside, ""),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_cannot_be_opened_stays_with_its_reason(layer, reason):
    inputs = keras.Input((8,))
    x = layers.Dense(8)(inputs)
    try:
        x = layer()(x)
    except Exception:
        pytest.skip("Keras itself cannot put it into a functional model")
    model = keras.Model(inputs, layers.Dense(2)(x))
    (found,) = closed_reasons(model)
    assert reason in found and "\n" not in found
    stripped = l0keras.strip(model)
    assert type(model.layers[2]) in kinds(stripped)
    (kept,) = l0keras.report(model, stripped).kept
    assert found in kept["reason"]


def test_axes_of_one_input_are_told_apart():
    class Columns(layers.Layer):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(9, 3)
            self.embedding.build()

        def call(self, x):
            return x + self.embedding(ops.arange(ops.shape(x)[2]))

    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Dense(2)(Columns()(inputs)))
    stripped = l0keras.strip(model)
    x = np.ones((2, 4, 6, 3), "float32")
    np.testing.assert_allclose(
        checks.to_numpy(model(x)), checks.to_numpy(stripped(x)), atol=1e-5
    )


def test_a_mask_that_is_handed_on_is_no_reason_to_stay():
    class Handed(Inner):
        def __init__(self):
            super().__init__()
            self.supports_masking = True

        def call(self, x, mask=None):
            return x + self.inner(x)

    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 8, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.LSTM(3)(Handed()(x)))
    assert closed_reasons(model) == []
    l0keras.strip(model)


class MakesMask(layers.Layer):
    """What is in its graph carries no mask."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(8, activation="relu")

    def call(self, x):
        x = ops.one_hot(x, 8)
        return x + self.inner(x)

    def compute_mask(self, x, mask=None):
        return ops.not_equal(x, 0)


class HandsOn(layers.Layer):
    """Its sum, as an op, ends the mask of its input."""

    def __init__(self, attends=False):
        super().__init__()
        self.supports_masking = True
        self.inner = keras.Sequential([layers.Dense(8, activation="relu")])
        # Which takes the masks off what it reads.
        self.attention = layers.MultiHeadAttention(2, 4) if attends else None

    def call(self, x):
        if self.attention is not None:
            x = x + self.attention(x, x)
        return x + self.inner(x)


class TakesMask(layers.Layer):
    def __init__(self, attends=False):
        super().__init__()
        self.supports_masking = True
        self.inner = layers.Dense(8, activation="relu")
        self.attention = layers.MultiHeadAttention(2, 4) if attends else None

    def call(self, x, mask=None):
        if self.attention is not None:
            return self.inner(self.attention(x, x))
        return self.inner(x * ops.cast(mask, x.dtype)[..., None])


def _pairs(layer):
    return lambda x: layer([x, layers.Dense(8)(x)])


def _embedded(layer):
    return lambda x: layer(layers.Embedding(7, 8, mask_zero=True)(x))


@pytest.mark.parametrize(
    ("before", "always"),
    [
        (lambda x: MakesMask()(x), False),
        (lambda x: _embedded(HandsOn(attends=True))(x), False),
        (lambda x: _embedded(HandsOn())(x), True),
    ],
)
@pytest.mark.parametrize(
    ("after", "reader"),
    [
        (lambda x: layers.LSTM(3)(x), None),
        (lambda x: layers.GlobalAveragePooling1D()(TakesMask()(x)), None),
        (lambda x: layers.Dense(3)(ops.mean(x, 1)), None),
        (lambda x: layers.Flatten()(layers.Dense(3)(x)), None),
        (lambda x: layers.Dense(3)(x), "the loss"),
        (lambda x: layers.Flatten()(_pairs(layers.Attention())(x)), "atte"),
        (lambda x: layers.Flatten()(_pairs(layers.Multiply())(x)), "multip"),
        (
            lambda x: layers.Flatten()(
                layers.MultiHeadAttention(2, 4)(layers.Dropout(0.2)(x), x)
            ),
            "multi_head",
        ),
        (lambda x: layers.Flatten()(TakesMask(attends=True)(x)), "multi_head"),
        (
            lambda x: layers.LSTM(3)(
                keras.Sequential([keras.Input((5, 8)), layers.Dense(3)])(x)
            ),
            "lstm",
        ),
        (
            lambda x: keras.Sequential(
                [keras.Input((5, 8)), layers.Dense(3), layers.LSTM(3)]
            )(x),
            "lstm",
        ),
    ],
)
def test_masks_that_are_read_go_on(before, always, after, reader):
    inputs = keras.Input((5,), dtype="int32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = keras.Model(inputs, after(before(inputs)))
        reasons = closed_reasons(model)
        copy = l0keras.strip(model)
        x = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]])
        both = model(x), copy(x)
    found = [reason for reason in reasons if "hands on a mask" in reason]
    assert len(found) == (reader is not None and not always)
    assert all(f"{reader}" in reason for reason in found)
    masks = [get_keras_mask(outputs) for outputs in both]
    assert (masks[0] is None) == (masks[1] is None)
    np.testing.assert_allclose(*map(checks.to_numpy, both), atol=1e-5)


def test_layers_hand_on_masks_when_opened():
    class Adds(HandsOn):
        def call(self, x):
            return layers.Add()([x, self.inner(x)])

    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 8, mask_zero=True)(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = keras.Model(inputs, layers.Dense(3)(Adds()(x)))
        assert closed_reasons(model) == []
        x = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]])
        masks = [get_keras_mask(m(x)) for m in (model, l0keras.strip(model))]
    np.testing.assert_array_equal(*map(checks.to_numpy, masks))


def test_a_mask_that_ends_inside_does_so_still():
    class Pooled(layers.Layer):
        def __init__(self):
            super().__init__()
            self.supports_masking = True
            self.pool = layers.GlobalAveragePooling1D()

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], 8))

        def call(self, x, mask=None):
            return self.pool(ops.matmul(x, self.w))

        def compute_mask(self, x, mask=None):
            return None

    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 6, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(Pooled()(x)))
    l0keras.strip(model)


def test_a_shared_block_stays_shared():
    rng = np.random.default_rng(0)
    inputs = keras.Input((8,))
    block = Block()
    model = keras.Model(inputs, layers.Dense(2)(block(block(inputs))))
    _, stripped = check_road(model, rng)
    dense = [x for x in stripped.layers if isinstance(x, layers.Dense)]
    assert len(dense) == 3


def test_a_mask_goes_through():
    class Masked(layers.Layer):
        def __init__(self):
            super().__init__()
            self.supports_masking = True
            self.inner = layers.Dense(12, activation="relu")
            self.outer = layers.Dense(8)
            self.pool = layers.GlobalAveragePooling1D()

        def call(self, x, mask=None):
            return self.pool(self.outer(self.inner(x)), mask=mask)

        def compute_mask(self, x, mask=None):
            return None

    rng = np.random.default_rng(0)
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(4, 8, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(Masked()(x)))
    result, stripped = check_road(model, rng)
    assert closed_reasons(model) == []
    assert len(l0keras.gates_of(result)) >= 2


class Heads(layers.Layer):
    """Makes a mask and a shape out of the size of the batch."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8)

    def call(self, x):
        batch = ops.shape(x)[0]
        x = ops.reshape(self.dense(x), (batch, 4, 2))
        return x * ops.ones((batch, 4, 1))


def test_sizes_of_a_batch_are_not_kept(tmp_path):
    rng = np.random.default_rng(0)
    inputs = keras.Input((8,))
    x = layers.Flatten()(Heads()(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert not closed_reasons(model)
    checks.check(model, rng, tmp_path)


class Normalized(layers.Layer):
    """Keras does not trace it to find its shape."""

    def __init__(self):
        super().__init__()
        self.norm = layers.UnitNormalization()
        self.dense = layers.Dense(8)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(self.norm(x))

    def compute_output_shape(self, input_shape):
        return input_shape


def test_products_with_numbers_are_not_sparse():
    """Keras says that they are."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((8,))
    x = layers.Dense(8, activation="relu")(inputs) * 2.0
    model = keras.Model(inputs, layers.Dense(2)(Normalized()(x)))
    assert not closed_reasons(model)
    checks.check(model, rng)


def test_gates_of_a_text_of_any_length_are_baked():
    rng = np.random.default_rng(0)
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(4, 8)(inputs)
    inner, outer = layers.Dense(12, activation="relu"), layers.Dense(8)
    # Called twice, so that a vector of gates is given to both.
    for _ in range(2):
        x = x + outer(inner(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    _, stripped = check_road(model, rng)
    assert not l0keras.gates_of(stripped)
    assert stripped.count_params() < 0.5 * model.count_params()


class Positions(layers.Layer):
    """Tokens and their positions, which only `arange` says."""

    def __init__(self, length):
        super().__init__()
        self.length = length
        self.tokens = layers.Embedding(4, 8)
        self.positions = layers.Embedding(16, 8)

    def call(self, x):
        length = self.length or ops.shape(x)[-1]
        return self.tokens(x) + self.positions(ops.arange(length))


class Causal(layers.Layer):
    """Attention to earlier steps only, in a text of any length."""

    def __init__(self):
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 4)
        self.inner, self.outer = layers.Dense(12, "relu"), layers.Dense(8)

    def call(self, x):
        batch, length, _ = ops.shape(x)
        steps = ops.arange(length)
        mask = ops.expand_dims(steps, 1) >= ops.expand_dims(steps, 0)
        mask = ops.broadcast_to(mask, (batch, length, length))
        x = x + self.attention(x, x, attention_mask=mask)
        return x + self.outer(self.inner(x))


@pytest.mark.parametrize("length", [6, None])
def test_positions_and_causal_masks_are_counted(length):
    rng = np.random.default_rng(0)
    arange = ops.arange
    inputs = keras.Input((length,), dtype="int32")
    x = Causal()(Causal()(Positions(length)(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    result, stripped = check_road(model, rng)
    assert closed_reasons(model) == [] and ops.arange is arange
    assert not {Positions, Causal} & kinds(stripped)
    assert stripped.count_params() < 0.7 * model.count_params()
    for size in (1, 4, 9) if length is None else (6,):
        x = rng.integers(0, 4, (3, size))
        np.testing.assert_allclose(stripped(x), result(x), rtol=0, atol=1e-5)
    # Positions train.
    table = next(w for w in result.weights if tuple(w.shape) == (16, 8))
    before = checks.to_numpy(table)
    result.compile("sgd", "mse")
    result.fit(x, np.ones((*x.shape, 2)), verbose=0)
    assert np.any(checks.to_numpy(table) != before)


def test_models_inside_of_time_distributed_are_opened():
    rng = np.random.default_rng(0)
    frame = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same")(frame)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same")(x)])
    frames = keras.Model(frame, layers.GlobalAveragePooling2D()(x))
    inputs = keras.Input((4, 6, 6, 3))
    x = layers.TimeDistributed(frames)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(6)(x)))
    result, stripped = check_road(model, rng)
    assert closed_reasons(model) == []
    assert stripped.count_params() < 0.45 * model.count_params()
    # Statistics move as they did.
    x = rng.normal(size=(3, 4, 6, 6, 3))
    model(x, training=True)
    copy = l0keras.sparsify(model)
    for one in (model, copy):
        one(x, training=True)
    moved = [
        [checks.to_numpy(w) for w in one.weights if "moving" in w.name]
        for one in (model, copy)
    ]
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_is_not_for_each_step_alone_stays():
    step = keras.Input((6,))
    turned = keras.ops.flip(layers.Dense(6)(step), axis=-1)
    inner = keras.Model(step, layers.Dense(4)(turned))
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, layers.TimeDistributed(inner)(inputs))
    (reason,) = closed_reasons(model)
    assert "(Flip) cannot be distributed over time" in reason


def test_steps_of_shapes_that_keras_cannot_tell_stay():
    class Other(Inner):
        def build(self, input_shape):
            self.table = self.add_weight(shape=(1, *input_shape[1:]))

        def call(self, x, training=None):
            return self.inner(2 * x if training else x + self.table)

    inner = keras.Sequential(
        [keras.Input((5, 8)), Other(), layers.Conv1D(2, 3), layers.Flatten()]
    )
    inputs = keras.Input((None, 5, 8))
    model = keras.Model(inputs, layers.TimeDistributed(inner)(inputs))
    assert any("compute_output_shape" in r for r in closed_reasons(model))
    l0keras.strip(model)


def test_activity_regularizers_count_at_all_steps_still():
    inner = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(4, activity_regularizer="l2"),
            layers.Dense(8),
        ]
    )
    inputs = keras.Input((3, 8))
    model = keras.Model(inputs, layers.TimeDistributed(inner)(inputs))
    stripped = l0keras.strip(model)
    x = np.ones((2, 3, 8), "float32")
    model(x), stripped(x)
    assert len(model.losses) == 3
    np.testing.assert_allclose(
        *(np.sum([float(v) for v in m.losses]) for m in (model, stripped)),
        rtol=1e-5,
    )
