import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.compression import sizes
from l0keras.shrinking import shrinking
from l0keras.targets import Target

HALF = Target("params", 0.5)


def examples(rows=48, seed=0):
    """Three classes, told apart by a few of the inputs."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    x = rng.normal(size=(rows, 8)).astype("float32")
    x[np.arange(rows), y] += 3.0
    return x, y


X, Y = examples()


@pytest.fixture(autouse=True)
def no_files(request, monkeypatch):
    """Spares all tests but one the writing and timing of files."""
    if "files" not in request.node.name:
        nothing = [(None, None)] * 2
        monkeypatch.setattr(sizes, "_files", lambda models: nothing)


def network(activation=None, outputs=3, hidden=12, **kwargs):
    inputs = keras.Input((8,))
    x = layers.Dense(hidden, use_bias=False, name="hidden")(inputs)
    x = layers.BatchNormalization(**kwargs)(x)
    x = layers.ReLU()(x)
    x = layers.Dense(hidden - 2, activation="relu", name="second")(x)
    return keras.Model(
        inputs, layers.Dense(outputs, activation=activation, name="out")(x)
    )


def compiled(model=None, optimizer=None, loss=None, metrics=("accuracy",)):
    model = model or network()
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=list(metrics),
        run_eagerly=True,
    )
    return model


def compress(model, x=X, y=Y, **kwargs):
    arguments = {"target": HALF, "epochs": 2, "verbose": 0, "batch_size": 16}
    return l0keras.compress(model, x, y, **{**arguments, **kwargs})


def state(thing):
    return [ops.convert_to_numpy(v).copy() for v in thing.variables]


def check_same(before, after):
    for value, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(value, other)


class Record(keras.callbacks.Callback):
    """What a training looks like from a callback."""

    def __init__(self):
        super().__init__()
        self.epochs, self.rates, self.weights = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.weights.append(self.model.count_params())

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


def test_one_call_makes_a_plain_small_model_and_leaves_the_caller_alone():
    model = compiled()
    model.fit(X, Y, epochs=2, verbose=0)
    metric = model.metrics[1]
    before = [state(one) for one in (model, model.optimizer, metric)]
    record = Record()
    result = compress(
        model, validation_split=0.25, epochs=4, callbacks=[record], seed=1
    )
    after = [state(one) for one in (model, model.optimizer, metric)]
    for one, other in zip(before, after, strict=True):
        check_same(one, other)
    small = result.model
    assert small.count_params() <= 0.5 * model.count_params()
    assert small.count_params() > 0.3 * model.count_params()
    assert not l0keras.gates_of(small)
    assert all(
        type(one).__module__.startswith("keras.") for one in small.layers
    )
    # Compiled as the first one, and not at a learning rate of 0.
    assert small.optimizer.get_config() == model.optimizer.get_config()
    assert int(small.optimizer.iterations) == 0
    assert small.run_eagerly
    # Epochs are counted through, over two models.
    assert record.epochs == [0, 1, 2, 3]
    assert record.weights[0] == record.weights[1] > record.weights[2]
    assert record.weights[2] == record.weights[3] == small.count_params()
    # Three steps of 12 examples: constant first, and then down to 0.
    steps = np.arange(1, 7)
    falling = 0.005 * (1 + np.cos(np.pi * steps / 6))
    np.testing.assert_allclose(
        record.rates, [*[0.01] * 6, *falling], rtol=1e-4, atol=1e-8
    )
    assert result.history["stage"] == ["Gates"] * 2 + ["Tuning"] * 2
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert len(result.history[name]) == 4
    table = result.table
    assert table["data"] == "validation_split"
    for name, one in (("dense", model), ("small", small)):
        assert table[name]["params"] == one.count_params()
        assert table[name]["macs"] == l0keras.count_macs(one)
        scores = one.evaluate(X[36:], Y[36:], verbose=0, return_dict=True)
        assert table[name]["metrics"] == pytest.approx(scores, rel=1e-4)
    ((row),) = table["targets"]
    assert row["target"] is HALF and row["layer"] is None
    assert row["dense"] == model.count_params()
    assert row["asked"] == 0.5 * row["dense"]
    assert row["reached"] == small.count_params()
    assert row["reached"] <= row["asked"]
    text = str(result)
    for part in ("dense", "small", "accuracy", "asked", "reached", "params"):
        assert part in text
    assert result.report.total["params"][1] == small.count_params()


def test_closed_gates_leave_while_others_are_trained(monkeypatch):
    monkeypatch.setattr(shrinking, "steps_of_a_cut", lambda *_: 0.0)
    model, record = network(hidden=40), Record()
    arguments = {"target": Target("params", 0.2), "epochs": 8, "seed": 1}
    compiled(model, keras.optimizers.Adam(0.05))
    result = compress(model, callbacks=[record], **arguments)
    gated, small = record.weights[:4], record.weights[4:]
    assert gated == sorted(gated, reverse=True)
    assert gated[0] > gated[-1] > small[0] == small[-1]
    assert record.epochs == list(range(8))
    (row,) = result.table["targets"]
    assert 0.9 * row["asked"] < row["reached"] <= row["asked"]
    # All that is told begins with the whole model.
    assert row["dense"] == model.count_params()
    hidden = result.report.layers[0]
    assert hidden["name"] == "hidden" and hidden["units"][0] == 40
    assert result.report.closed[1] == 8 + 40 + 38


def test_statistics_are_measured_after_the_cut(capsys):
    # They would never move by themselves.
    model = compiled(network(momentum=1.0), keras.optimizers.SGD(0.0))
    # And without having learned anything no gate goes first.
    with warnings.catch_warnings():
        # Keras's own, which `pytest.warns` would give out again.
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.warns(UserWarning, match="all 30 gates open.*too few"):
            result = compress(model)
    (norm,) = [
        one
        for one in result.model.layers
        if isinstance(one, layers.BatchNormalization)
    ]
    assert not np.allclose(ops.convert_to_numpy(norm.moving_mean), 0)
    assert not capsys.readouterr().out


def sequence():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(index * 16, index * 16 + 16)
            return X[rows], Y[rows]

    return Batches()


def generator():
    while True:
        yield X[:16], Y[:16]


def dataset():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("data of TensorFlow")
    import tensorflow as tf

    whole = tf.data.Dataset.from_tensor_slices((X, Y))
    return whole.filter(lambda x, y: y >= 0).batch(16)


@pytest.mark.parametrize("make", [sequence, generator, dataset])
def test_all_data_of_fit(make):
    steps = 3 if make is generator else None
    record = Record()
    result = compress(
        compiled(),
        make(),
        None,
        batch_size=None,
        steps_per_epoch=steps,
        callbacks=record,
    )
    assert len(record.rates) == 6
    known = make is not generator
    assert result.table["data"] == ("x" if known else None)
    assert (result.table["small"]["metrics"] is not None) == known
    assert "reached" in str(result)


def test_several_inputs_outputs_and_targets():
    inputs = {name: keras.Input((8,), name=name) for name in ("a", "b")}
    x = layers.Concatenate()(list(inputs.values()))
    x = layers.Dense(12, activation="relu", name="hidden")(x)
    x = layers.Dense(12, activation="relu", name="second")(x)
    outputs = {
        "label": layers.Dense(3, name="label")(x),
        "size": layers.Dense(1, name="size")(x),
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        "adam",
        {
            "label": keras.losses.SparseCategoricalCrossentropy(True),
            "size": "mse",
        },
        metrics={"label": ["accuracy"]},
        run_eagerly=True,
    )
    targets = [Target("params", 0.6), Target("units", 0.4, each=True)]
    result = compress(
        model,
        {"a": X, "b": X},
        {"label": Y, "size": X[:, :1]},
        target=targets,
        teacher="self",
    )
    assert set(result.model.output) == {"label", "size"}
    rows = result.table["targets"]
    assert [row["layer"] for row in rows] == [None, "hidden", "second"]
    assert all(row["reached"] <= row["asked"] for row in rows)
    assert "units of hidden" in str(result)


def test_layers_without_gates_are_expected_to_stay():
    target = Target("params", 0.5, where="^hidden$|^out$", each=True)
    result = compress(compiled(), target=target, rules={"^second$": False})
    hidden, out = result.table["targets"]
    assert hidden["layer"] == "hidden" and hidden["reached"] <= 48
    assert out["expected"] is None and out["reached"] == out["dense"] == 33
    assert "params of out" in str(result)


def test_files_in_integers():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT files are written on TensorFlow")
    pytest.importorskip("ai_edge_litert")
    model = compiled(network(hidden=128))
    target = Target("bytes", 0.6, quantization="int8")
    (row,) = compress(model, target=target).table["targets"]
    assert row["asked"] == 0.6 * row["dense"]
    assert 0.9 * row["asked"] < row["reached"] <= row["asked"]


def test_own_losses_and_optimizers():
    class Own(keras.optimizers.SGD):
        def __init__(self, factor):
            super().__init__(0.05)
            self.factor = factor

        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, self.factor * learning_rate)

    def loss(y, logits):
        return keras.losses.sparse_categorical_crossentropy(y, logits, True)

    result = compress(compiled(optimizer=Own(2.0), loss=loss, metrics=()))
    assert result.model.optimizer.factor == 2.0
    assert result.model.loss is loss
    assert set(result.table["small"]["metrics"]) == {"loss"}


def test_a_teacher_is_learned_and_not_kept():
    teacher = network()
    before = state(teacher)
    # Labels that say nothing.
    result = compress(
        compiled(optimizer=keras.optimizers.Adam(0.03)),
        y=np.zeros_like(Y),
        teacher=teacher,
        teacher_share=1.0,
        temperature=1.0,
        # Large and long enough for the teacher to be learned whichever units
        # the rounding of a processor leaves.
        target=Target("params", 0.9),
        epochs=20,
    )
    check_same(before, state(teacher))
    theirs = np.argmax(teacher.predict(X, verbose=0), -1)
    ours = np.argmax(result.model.predict(X, verbose=0), -1)
    assert len(set(theirs)) > 1
    assert np.mean(theirs == ours) > 0.7
    assert "compute_loss" not in vars(result.model)


def test_it_says_what_it_does_and_weighs_files(capsys):
    result = compress(compiled(), verbose=2, validation_data=(X, Y))
    text = capsys.readouterr().out + str(result)
    if keras.backend.backend() == "tensorflow":
        pytest.importorskip("ai_edge_litert")
        dense, small = result.table["dense"], result.table["small"]
        assert min(dense["bytes"], small["bytes"]) > 0
        assert min(dense["latency_us"], small["latency_us"]) > 0
        assert "bytes" in text and "latency us" in text
    for part in (
        "Gates, epoch 1 of 2",
        "Tuning, epoch 2 of 2",
        "left - ",
        "% params",
        "val_accuracy",
        "on validation_data",
    ):
        assert part in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"target": 0.5}, "`target` must be an l0keras.targets.Target"),
        ({"target": Target("params", 0.001)}, "can be reached.* smallest is"),
        ({"epochs": 1}, "`epochs` must be an integer of at least 2"),
        ({"epochs": 2.0}, "`epochs` must be an integer"),
        ({"y": Y + 1}, "`y` must have labels from 0 to 2.*from 1 to 3"),
        ({"x": X[:, :5]}, "`x` must fit the inputs of the model"),
        ({"y": None}, "`y` must be given"),
        ({"teacher": "none"}, "`teacher` must be None, 'self'"),
        ({"teacher_share": 0}, r"`teacher_share` must lie in \(0, 1\]"),
        ({"temperature": 0}, "`temperature` must be above 0"),
        ({"round_to": 0}, "`round_to` must be an integer of at least 1"),
        ({"callbacks": ["log"]}, "`callbacks` must be a list"),
        ({"verbose": 3}, "`verbose` must be 0, 1, 2 or 'auto'"),
    ],
)
def test_errors_come_before_any_training(arguments, message, monkeypatch):
    def fit(*args, **kwargs):
        raise AssertionError("training began")

    monkeypatch.setattr(keras.Model, "fit", fit)
    with pytest.raises(ValueError, match=message):
        compress(compiled(), **arguments)


def test_models_that_cannot_be_trained_are_refused():
    with pytest.raises(ValueError, match=r"call `model\.compile\(\.\.\.\)`"):
        compress(network())
    with pytest.raises(ValueError, match="must be a Keras model"):
        l0keras.compress("model", X, Y, target=HALF, epochs=2)
    other = network(outputs=4)
    with pytest.raises(ValueError, match=r"outputs of the model's shapes"):
        compress(compiled(), teacher=other)
