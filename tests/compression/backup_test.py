import os

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.compression import sizes
from l0keras.compression.backup import Backup
from l0keras.targets import Target

rng = np.random.default_rng(0)
X = rng.normal(size=(32, 8)).astype("float32")
Y = rng.integers(0, 3, 32)


@pytest.fixture(autouse=True, scope="module")
def no_files():
    """Spares the tests the writing and timing of files."""
    nothing = [(None, None)] * 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "_files", lambda models: nothing)
        yield


def network(seed=1, rate=0.02, ignored=None):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(10, activation="relu", name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.1, seed=3, name="dropout"),
            layers.Dense(3, name="out"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.5),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=ignored
        ),
        run_eagerly=True,
    )
    return model


def compress(folder=None, model=None, x=X, y=Y, **kwargs):
    arguments = {
        "target": Target("params", 0.5),
        "epochs": 4,
        "batch_size": 16,
        "shuffle": False,
        "seed": 5,
        "verbose": 0,
        **kwargs,
    }
    model = model or network()
    return l0keras.compress(model, x, y, backup_dir=folder, **arguments)


class Stop(keras.callbacks.Callback):
    """Stops at the beginning of epochs, the first time that they come."""

    def __init__(self, *epochs):
        super().__init__()
        self.left, self.seen = list(epochs), []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch in self.left:
            self.left.remove(epoch)
            raise KeyboardInterrupt
        self.seen.append(epoch)


def gone_on_with(stop, *args, **kwargs):
    """The result of calls that are stopped and made again."""
    while stop.left:
        with pytest.raises(KeyboardInterrupt):
            compress(*args, callbacks=[stop], **kwargs)
    return compress(*args, callbacks=[stop], **kwargs)


def check_same(one, other):
    assert one.history.keys() == other.history.keys()
    for name, column in one.history.items():
        second = other.history[name]
        if name == "stage":
            assert column == second
            continue
        column, second = (np.array(own, float) for own in (column, second))
        np.testing.assert_allclose(column, second, rtol=1e-4)
    weights = [result.model.get_weights() for result in (one, other)]
    for first, second in zip(*weights, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)
    assert str(one.report) == str(other.report)
    assert one.table["targets"] == other.table["targets"]


@pytest.fixture(scope="module")
def straight():
    return compress()


def test_a_stopped_call_ends_where_one_without_a_stop_does(straight, tmp_path):
    folder = tmp_path / "backup"
    # At the start, within both trainings, and between them.
    stop = Stop(0, 1, 2, 3)
    result = gone_on_with(stop, folder)
    assert stop.seen == list(range(4))
    check_same(result, straight)
    assert not folder.exists()


def test_a_dataset_and_a_teacher(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("data of TensorFlow")
    import tensorflow as tf

    # Not one batch is like another.
    x = rng.normal(size=(6 * 16, 8)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, np.resize(Y, len(x))))
    arguments = {
        "x": data.batch(16),
        "y": None,
        "batch_size": None,
        "steps_per_epoch": 2,
        "validation_data": (X, Y),
        "validation_freq": 2,
        "teacher": "self",
    }
    straight = compress(**arguments)
    stop = Stop(1, 3)
    check_same(gone_on_with(stop, tmp_path / "backup", **arguments), straight)
    assert stop.seen == list(range(4))
    # In the epochs that they are of.
    assert [v is None for v in straight.history["val_loss"]] == [
        True,
        False,
    ] * 2


def test_a_call_that_fails_after_its_training_trains_no_more(
    straight, tmp_path, monkeypatch
):

    def fails(*_, **__):
        raise RuntimeError("no memory")

    seen = []
    for name in ("kept_gates", "refresh_batch_norm", "compared"):
        with monkeypatch.context() as patch:
            patch.setattr(f"l0keras.compression.compress.{name}", fails)
            stop = Stop()
            with pytest.raises(RuntimeError, match="no memory"):
                compress(tmp_path, callbacks=[stop])
            seen.append(stop.seen)
    assert seen == [[0, 1], [], [2, 3]]
    (tmp_path / "notes.txt").write_text("mine")
    stop = Stop()
    check_same(compress(tmp_path, callbacks=[stop]), straight)
    assert not stop.seen
    # What is not its own stays.
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_only_the_same_call_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compress(tmp_path, callbacks=[Stop(0)])
    # Nothing was kept, so it may be another one.
    with pytest.raises(KeyboardInterrupt):
        compress(tmp_path, callbacks=[Stop(1)], seed=6)
    before = sorted(os.listdir(tmp_path))
    assert before == ["gates.npz", "settings.json"]
    for arguments, message in (
        ({"seed": 5}, "seed=6 instead of 5$"),
        ({"epochs": 8}, "epochs=4 instead of 8"),
        ({"batch_size": 8}, "steps_per_epoch=2 instead of 4"),
        ({"target": Target("params", 0.4)}, "target=.*0.5.*instead of .*0.4"),
        ({"model": network(seed=2)}, "a call with another model$"),
        ({"model": network(rate=0.01)}, "optimizer=.*0.0199.* instead"),
        ({"model": network(ignored=7)}, "loss=.*null.* instead of .*7"),
        ({"class_weight": {0: 2.0}}, "class_weight=null instead of"),
        ({"teacher": network()}, "another teacher"),
        ({"rules": {"hidden": True}}, "rules=null instead of"),
    ):
        with pytest.raises(ValueError, match=f"`backup_dir`.*{message}"):
            compress(tmp_path, **{"seed": 6, **arguments})
    assert sorted(os.listdir(tmp_path)) == before
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match="settings.json' is damaged"):
        compress(tmp_path, seed=6)


@pytest.mark.parametrize("folder", [3, "file", "file/folder"])
def test_folders_that_cannot_be_written_to(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`backup_dir` must be a folder"):
        Backup(folder, epochs=2)


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backup = Backup(None, epochs=2)
    model = network()
    before = [ops.convert_to_numpy(v) for v in model.variables]
    backup.save_cut(model, np.ones(3))
    assert backup.load_cut(model) is None and not backup.is_over("Gates")
    assert backup.record("Gates").resume(model) == (model, 0)
    backup.remove()
    assert not os.listdir(tmp_path)
    for value, variable in zip(before, model.variables):
        np.testing.assert_array_equal(value, variable)
