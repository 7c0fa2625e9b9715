import json
import os

import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras.callbacks import Checkpoint
from l0keras.callbacks import CheckpointError
from l0keras.callbacks import NonFiniteError

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 6)).astype("float32")
Y = rng.normal(size=(12, 2)).astype("float32")


def make(seed, units=5, run_eagerly=True):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            l0keras.layers.L0Dense(
                units, l0=0.01, l2=0.01, activation="relu", seed=seed
            ),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=seed),
            l0keras.layers.L0Dense(2, seed=seed + 1),
        ]
    )
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9)
    # To trace a step is dearer than to run few of them.
    model.compile(optimizer, "mse", jit_compile=False, run_eagerly=run_eagerly)
    return model


def fit(model, checkpoint, epochs, first=0):
    model.fit(
        X,
        Y,
        batch_size=4,
        shuffle=False,
        epochs=epochs,
        initial_epoch=first,
        callbacks=[checkpoint],
        verbose=0,
    )


def state(path):
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def test_resumed_run_ends_where_the_straight_one_does(tmp_path):
    straight = Checkpoint(tmp_path / "straight.npz")
    fit(make(1, run_eagerly=False), straight, 5)
    stopped = Checkpoint(tmp_path / "stopped.npz")
    fit(make(1, run_eagerly=False), stopped, 2)
    # Other seeds, so that all that counts must come from the file.
    model = make(7, run_eagerly=False)
    resumed = Checkpoint(tmp_path / "stopped.npz")
    assert resumed.restore(model) == 2
    fit(model, resumed, 5, first=2)
    one, other = state(straight.path), state(resumed.path)
    assert one.keys() == other.keys()
    for name in one.keys() - {"meta"}:
        np.testing.assert_array_equal(one[name], other[name])
    for row, same in zip(straight.history, resumed.history, strict=True):
        assert {**row, "seconds": 0} == {**same, "seconds": 0}
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3, 4, 5]


def test_keras_weights_alone_lack_the_noise(tmp_path):
    """The reason why this class exists; should Keras learn it, drop it."""
    model = make(1)
    fit(model, Checkpoint(tmp_path / "c.npz"), 1)
    model.save_weights(tmp_path / "m.weights.h5")
    other = make(7)
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "m.weights.h5")
    gates = [l0keras.gates_of(m)[0] for m in (model, other)]
    seeds = [ops.convert_to_numpy(gate.seed_generator.state) for gate in gates]
    assert not np.array_equal(*seeds)


def test_nothing_saved_yet(tmp_path):
    assert Checkpoint(tmp_path / "none.npz").restore(make(1)) == 0


def test_restores_all_variables(tmp_path):
    model = make(1)
    checkpoint = Checkpoint(tmp_path / "c.npz")
    # `fit` overwrites the weights with averages after the last callback.
    saved = {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            variables = [*model.variables, *model.optimizer.variables]
            saved.update(
                enumerate(ops.convert_to_numpy(v).copy() for v in variables)
            )

    model.fit(X, Y, callbacks=[checkpoint, Keep()], verbose=0)
    other = make(7)
    checkpoint.restore(other)
    variables = [*other.variables, *other.optimizer.variables]
    for index, variable in enumerate(variables):
        np.testing.assert_array_equal(saved[index], variable)
    # Seeds of two gates and one dropout are among them.
    seeds = [v for v in other.variables if v.name == "seed_generator_state"]
    assert len(seeds) == 3
    assert len(saved) == len(variables)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a good file."""
    path = tmp_path_factory.mktemp("good") / "c.npz"
    fit(make(1), Checkpoint(path), 1)
    return path.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty", "no meta"])
def test_damaged_file_is_named_and_left_alone(tmp_path, damage, written):
    checkpoint = Checkpoint(tmp_path / "c.npz")
    (tmp_path / "c.npz").write_bytes(written)
    content = bytearray(written)
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        # Inside the largest array, where only its checksum can tell.
        kernel = state(checkpoint.path)["00000"].tobytes()
        content[bytes(content).index(kernel)] ^= 255
    elif damage == "text":
        content = b"not an archive"
    elif damage == "empty":
        content = b""
    if damage == "no meta":
        np.savez(checkpoint.path, x=np.zeros(3))
    else:
        with open(checkpoint.path, "wb") as file:
            file.write(content)
    with open(checkpoint.path, "rb") as file:
        before = file.read()
    model = make(2)
    weights = model.get_weights()
    with pytest.raises(CheckpointError, match=r"c\.npz' is damaged"):
        Checkpoint(checkpoint.path).restore(model)
    for value, same in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, same)
    with open(checkpoint.path, "rb") as file:
        assert file.read() == before


def test_refuses_another_model(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c.npz")
    fit(make(1), checkpoint, 1)
    with pytest.raises(CheckpointError, match="another model"):
        checkpoint.restore(make(1, units=6))


def test_keeps_the_last_finite_state(tmp_path):
    model = make(1)
    checkpoint = Checkpoint(tmp_path / "c.npz")
    fit(model, checkpoint, 2)
    model.layers[0].kernel.assign(np.full((6, 5), np.inf))
    with pytest.raises(NonFiniteError, match="kernel.*end of epoch 3"):
        checkpoint.set_model(model)
        checkpoint.on_epoch_begin(2)
        checkpoint.on_epoch_end(2, {})
    other = make(2)
    assert Checkpoint(checkpoint.path).restore(other) == 2
    assert all(np.isfinite(value).all() for value in other.get_weights())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    model = make(1)
    checkpoint = Checkpoint(tmp_path / "c.npz")
    fit(model, checkpoint, 1)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        fit(model, checkpoint, 2, first=1)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["c.npz"]
    assert Checkpoint(checkpoint.path).restore(make(1)) == 1


def test_history_is_plain_json(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c.npz")
    fit(make(1), checkpoint, 2)
    meta = json.loads(str(state(checkpoint.path)["meta"]))
    assert meta["history"] == checkpoint.history
    assert set(meta["history"][0]) == {"epoch", "seconds", "loss"}


def test_refuses_another_ending():
    with pytest.raises(ValueError, match="`path` must end in '.npz'"):
        Checkpoint("run/checkpoint.h5")
