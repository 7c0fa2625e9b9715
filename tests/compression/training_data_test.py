import keras
import numpy as np
import pytest
from keras import layers

from l0keras.compile_settings import CompileSettings
from l0keras.compression.training_data import TrainingData

X = np.arange(40.0, dtype="float32").reshape(20, 2)
Y = np.arange(20) % 3


def tf_data():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("data of TensorFlow")
    import tensorflow as tf

    return tf.data


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return X[index * 4 : index * 4 + 4], Y[index * 4 : index * 4 + 4]


class Endless(Batches):
    __len__ = None

    @property
    def num_batches(self):
        return None


def endless():
    while True:
        yield X[:4], Y[:4]


def model(classes=3, loss="sparse_categorical_crossentropy"):
    inputs = keras.Input((2,))
    outputs = layers.Dense(classes, activation="softmax")(inputs)
    made = keras.Model(inputs, outputs)
    made.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)
    return made


class Steps(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


def check(data, steps, name="x"):
    """Whether as many steps are announced as `fit` makes, and again."""
    assert (data.steps, data.name) == (steps, name)
    trained = model()
    data.check(trained, CompileSettings(trained))
    for _ in range(2):
        counter = Steps()
        trained.fit(**data.fit_arguments(), verbose=0, callbacks=[counter])
        assert counter.count == steps
    scores = data.evaluate(trained)
    if name is None:
        assert scores is None
    else:
        assert set(scores) == {"loss", "accuracy"}
    first = next(data.batches())
    assert len(first) == 1 and first[0].shape[1:] == (2,)
    return trained, scores


def test_arrays():
    check(TrainingData(X, Y, batch_size=6), 4)
    check(TrainingData(X, Y), 1)
    check(TrainingData(X, Y, steps_per_epoch=2, batch_size=5), 2)
    weights = np.ones(20)
    check(TrainingData(X, Y, batch_size=6, sample_weight=weights), 4)
    check(TrainingData(X, Y, batch_size=6, class_weight={0: 2.0}), 4)


def test_batches_of_arrays_are_full_and_shuffled():
    data = TrainingData(X, Y, batch_size=6)
    first, again = (
        np.concatenate([x for (x,) in data.batches()]) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert len(first) == 18 and len(np.unique(first[:, 0])) == 18
    assert not np.array_equal(first, X[:18])
    ((x,),) = TrainingData(X, Y).batches()
    assert x.shape == (20, 2)


def test_the_split_is_that_of_fit():
    data = TrainingData(X, Y, batch_size=4, validation_split=0.25)
    trained, scores = check(data, 4, "validation_split")
    expected = trained.evaluate(X[15:], Y[15:], verbose=0, return_dict=True)
    assert scores == pytest.approx(expected, rel=1e-5)
    seen = np.concatenate([x for (x,) in data.batches()])
    assert set(seen[:, 0]) <= set(X[:15, 0])
    # Data for validation win, as in `fit`.
    data = TrainingData(X, Y, validation_split=0.25, validation_data=(X, Y))
    assert data.name == "validation_data"


def test_sequences():
    check(TrainingData(Batches(1)), 5)
    check(TrainingData(Endless(1), steps_per_epoch=3), 3)


def test_generators():
    check(TrainingData(endless(), steps_per_epoch=3), 3, None)
    data = TrainingData(
        endless(), steps_per_epoch=3, validation_data=(X[:8], Y[:8])
    )
    check(data, 3, "validation_data")


def test_datasets_of_known_and_unknown_size():
    tf = tf_data()
    whole = tf.Dataset.from_tensor_slices((X, Y))
    check(TrainingData(whole.batch(6)), 4)
    some = whole.filter(lambda x, y: y > 0).batch(4)
    assert int(some.cardinality()) == -2
    trained, scores = check(TrainingData(some), 4)
    left = Y > 0
    expected = trained.evaluate(X[left], Y[left], verbose=0, return_dict=True)
    assert scores == pytest.approx(expected, rel=1e-5)
    check(TrainingData(X, Y, validation_data=some), 1, "validation_data")
    check(TrainingData(whole.batch(6).repeat(), steps_per_epoch=2), 2)
    data = TrainingData(
        whole.repeat().batch(4),
        steps_per_epoch=3,
        validation_data=whole.batch(5),
    )
    check(data, 3, "validation_data")
    with pytest.raises(ValueError, match="`steps_per_epoch` must be given"):
        TrainingData(whole.batch(4).repeat())
    with pytest.raises(ValueError, match="`x` must have at least one batch"):
        TrainingData(whole.filter(lambda x, y: y > 9).batch(4))
    with pytest.raises(ValueError, match="`validation_split`"):
        TrainingData(whole.batch(4), validation_split=0.5)


@pytest.mark.parametrize("data", [endless, lambda: Endless(1)])
def test_endless_data_need_a_number_of_steps(data):
    with pytest.raises(ValueError, match="`steps_per_epoch` must be given"):
        TrainingData(data())


def several():
    inputs = {name: keras.Input((2,), name=name) for name in ("left", "right")}
    both = layers.Concatenate()(list(inputs.values()))
    outputs = [
        layers.Dense(3, name="label", activation="softmax")(both),
        layers.Dense(1, name="size")(both),
    ]
    made = keras.Model(inputs, outputs)
    made.compile("sgd", ["sparse_categorical_crossentropy", "mse"])
    return made


def test_several_inputs_and_outputs():
    made = several()
    data = TrainingData({"left": X, "right": X}, [Y, X[:, :1]], batch_size=8)
    data.check(made, CompileSettings(made))
    ((batch,), _) = data.batches()
    assert {name: one.shape for name, one in batch.items()} == {
        "left": (8, 2),
        "right": (8, 2),
    }
    made.fit(**data.fit_arguments(), verbose=0)
    with pytest.raises(
        ValueError, match=r"labels from 0 to 2.*'label'.*3 to 5"
    ):
        y = [Y + 3, X[:, :1]]
        data = TrainingData({"left": X, "right": X}, y)
        data.check(made, CompileSettings(made))
    with pytest.raises(ValueError, match="`x` must fit the inputs"):
        data = TrainingData({"left": X, "right": X[:, :1]}, [Y, X[:, :1]])
        data.check(made, CompileSettings(made))


@pytest.mark.parametrize(
    "x, y, arguments, message",
    [
        (X[:, :1], Y, {}, r"`x` must fit .* \(None, 2\).*\(None, 1\)"),
        (X, Y + 1, {}, "`y` must have labels from 0 to 2.*from 1 to 3"),
        (X, Y - 1, {}, "from 0 to 2.*from -1 to 1"),
        (X, None, {}, "`y` must be given"),
        (X, Y, {"validation_data": (X, Y + 1)}, "`validation_data` must have"),
        (
            X,
            Y,
            {"validation_data": (X[:, :1], Y)},
            "`validation_data` must fit",
        ),
    ],
)
def test_data_that_do_not_fit_the_model(x, y, arguments, message):
    made = model()
    data = TrainingData(x, y, **arguments)
    with pytest.raises(ValueError, match=message):
        data.check(made, CompileSettings(made))


def test_labels_in_the_split_part_are_checked():
    made = model()
    labels = np.where(np.arange(20) < 18, Y, 7)
    data = TrainingData(X, labels, validation_split=0.2)
    with pytest.raises(ValueError, match="`y` must have labels .* to 7"):
        data.check(made, CompileSettings(made))


def test_labels_that_do_not_count_may_be_anything():
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=255)
    made = model(loss=loss)
    labels = np.where(Y == 1, 255, Y)
    TrainingData(X, labels).check(made, CompileSettings(made))
    # Nor are they classes for other losses.
    made = model(loss="mse")
    TrainingData(X, X[:, :1] + 9).check(made, CompileSettings(made))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "`batch_size`.*batch_size=0"),
        ({"steps_per_epoch": 1.5}, "`steps_per_epoch`.*1.5"),
        ({"validation_split": 1.0}, r"`validation_split` must lie in \[0, 1\)"),
        ({"validation_split": -0.1}, "`validation_split`"),
    ],
)
def test_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingData(X, Y, **arguments)
