import csv
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import l0keras
from trainers.run import training
from trainers.run.callbacks import Progress
from trainers.run.config import Config
from trainers.run.training import Training
from trainers.run.training import train

MLP = Config(
    model="mlp",
    dataset="digits",
    epochs=3,
    batch_size=300,
    learning_rate=0.01,
    ema_momentum=0.9,
    l0_lambda=(0.3, 0.1, 0.1),
)


def state(workdir):
    with np.load(workdir / "checkpoint.npz") as archive:
        return {name: archive[name] for name in archive.files if name != "meta"}


def rows(workdir):
    with open(workdir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


def assert_same_run(one, other):
    first, second = state(one), state(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    assert rows(one) == rows(other)
    models = [keras.saving.load_model(d / "model.keras") for d in (one, other)]
    for value, same in zip(*(model.get_weights() for model in models)):
        np.testing.assert_array_equal(value, same)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A finished run: its folder and its report."""
    workdir = tmp_path_factory.mktemp("straight")
    return workdir, train(MLP, workdir)


def test_workdir_has_everything(straight):
    workdir, report = straight
    names = set(os.listdir(workdir))
    assert names >= {
        "checkpoint.npz",
        "config.json",
        "history.csv",
        "model.keras",
        "model.tflite",
        "pixel_gates.png",
        "report.json",
        "stripped.keras",
        "tensorboard",
        "units.png",
    }
    assert not [name for name in names if "tmp" in name]
    assert json.loads((workdir / "report.json").read_text()) == report
    assert [row["epoch"] for row in rows(workdir)] == ["1", "2", "3"]


def test_report_agrees_with_the_files(straight, digits):
    workdir, report = straight
    images = digits.test_images.astype("float32") / 16
    gated = keras.saving.load_model(workdir / "model.keras")
    stripped = keras.saving.load_model(workdir / "stripped.keras")
    for name, model in (("gated", gated), ("stripped", stripped)):
        wrong = np.argmax(model.predict(images, verbose=0), -1)
        wrong = np.mean(wrong != digits.test_labels)
        assert report["test_error"][name] == pytest.approx(100 * wrong)
        assert report["params"][name] == model.count_params()
    assert report["test_error"]["tflite"] == report["test_error"]["gated"]
    assert report["params"]["dense"] == 64 * 300 + 300 * 100 + 1000 + 410
    assert report["macs"]["dense"] == 64 * 300 + 300 * 100 + 1000
    numbers = [
        np.count_nonzero(gate.test_gates()) for gate in l0keras.gates_of(gated)
    ]
    assert report["architecture"] == "-".join(map(str, numbers))
    assert report["bytes"]["tflite"] == os.path.getsize(
        workdir / "model.tflite"
    )
    assert set(report["latency_us"]) == {"dense", "tflite"}
    assert report["max_difference"]["stripped"] < 1e-4
    assert (report["seed"], report["epochs"]) == (0, 3)
    # The averaged weights of the last epoch are those in the files.
    last = float(rows(workdir)[-1]["val_accuracy"])
    assert report["test_error"]["gated"] == pytest.approx(100 * (1 - last))


def test_averages_lie_between_the_steps(straight):
    workdir, _ = straight
    saved = keras.saving.load_model(workdir / "model.keras")
    kernel = saved.get_layer("fc3").kernel.numpy()
    arrays = [v for v in state(workdir).values() if v.shape == kernel.shape]
    # The weights themselves, Adam's two moments, and the averages.
    assert len(arrays) == 4
    assert [np.array_equal(kernel, array) for array in arrays].count(True) == 1
    assert not np.array_equal(kernel, arrays[0])


@pytest.mark.parametrize("when", ["between epochs", "within an epoch"])
def test_resumed_run_ends_where_the_straight_one_did(
    when, straight, tmp_path, monkeypatch
):
    if when == "between epochs":

        def stop(self, epoch, logs=None):
            raise KeyboardInterrupt

        monkeypatch.setattr(Progress, "on_epoch_end", stop)
    else:
        steps = []

        def stop(self, batch, logs=None):
            steps.append(batch)
            if len(steps) == 8:
                raise KeyboardInterrupt

        # Five steps in an epoch, one at a time so that the middle is reached.
        monkeypatch.setattr(training, "MAX_STEPS_PER_EXECUTION", 1)
        monkeypatch.setattr(Progress, "on_train_batch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        train(MLP, tmp_path)
    monkeypatch.undo()
    assert len(rows(tmp_path)) == 1
    assert not (tmp_path / "report.json").exists()
    train(MLP, tmp_path)
    assert_same_run(straight[0], tmp_path)


def test_finished_run_only_gives_its_report(straight, monkeypatch):
    workdir, report = straight
    before = os.stat(workdir / "checkpoint.npz").st_mtime_ns
    monkeypatch.setattr(Training, "_fit", None)
    run = Training(MLP, workdir)
    assert run.finished == run.run() == report
    assert os.stat(workdir / "checkpoint.npz").st_mtime_ns == before


def test_results_can_be_made_again(straight):
    """Killed after the last epoch, before the report."""
    workdir, report = straight
    os.remove(workdir / "report.json")
    again = train(MLP, workdir)
    for name in report.keys() - {"latency_us"}:
        assert again[name] == report[name]


def test_convolutions_are_the_same_twice(tmp_path):
    config = Config(dataset="digits", image_size=16, epochs=1, seed=4)
    for name in ("one", "other"):
        train(config, tmp_path / name)
    assert_same_run(tmp_path / "one", tmp_path / "other")
    names = {path.name for path in tmp_path.glob("one/*.png")}
    assert names == {"units.png"}


def test_runs_whose_gates_stay_open_say_why(tmp_path, capsys):
    config = dataclasses.replace(MLP, l0_lambda=(0.0,), learning_rate=1e-4)
    train(config, tmp_path)
    printed = capsys.readouterr().out
    assert (
        "warning: Training ended after 15 steps with all 464 gates" in printed
    )
    assert "--l0_lambda" in printed or "--gate_learning_rate" in printed
    assert "`l0`" not in printed
    assert printed.count("warning: ") == 1


def test_dense_method_reports_its_own_error(tmp_path):
    config = Config(
        model="mlp",
        dataset="digits",
        method="dense",
        optimizer="sgd",
        learning_rate=0.1,
        ema_momentum=0.0,
        epochs=2,
    )
    report = train(config, tmp_path)
    assert set(report["test_error"]) == {"dense", "stripped", "tflite"}
    assert report["test_error"]["dense"] == report["test_error_raw"] < 80
    assert report["architecture"] == "64-300-100"
    assert not list(tmp_path.glob("*.png"))


PHASES = Config(
    model="mlp",
    dataset="digits",
    l0_lambda=(0.3,),
    epochs=2,
    finetune_epochs=2,
    batch_size=300,
    optimizer="sgd",
    learning_rate=0.5,
    momentum=0.9,
    lr_boundaries=(3.0,),
    gate_learning_rate=0.1,
    ema_momentum=0.0,
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A finished run with fine-tuning: its folder and itself."""
    workdir = tmp_path_factory.mktemp("tuned")
    run = Training(PHASES, workdir)
    run.run()
    return workdir, run


def test_fine_tuning_freezes_the_gates(tuned):
    gates = [
        {name: row[name] for name in row if name.startswith("fc")}
        for row in rows(tuned[0])
    ]
    assert len(gates) == 4 and len(gates[0]) == 6
    assert gates[0] != gates[1] == gates[2] == gates[3]
    model = tuned[1]._model
    assert [v.name for v in model.trainable_variables] == ["kernel", "bias"] * 3
    # The gates of fine-tuning are those of the test, not samples.
    images = np.random.default_rng(0).random((5, 8, 8, 1), "float32")
    np.testing.assert_array_equal(
        model(images, training=True), model(images, training=False)
    )


def test_fine_tuning_has_no_penalty_and_trains_the_weights(tuned):
    assert tuned[1]._model.losses == []
    losses = [float(row["loss"]) for row in rows(tuned[0])]
    # The price of all weights at the start is 18 nats.
    assert losses[1] > 4 > 3 > losses[2] > losses[3]


def test_optimizers_go_on_in_fine_tuning(tuned):
    gates, weights = tuned[1]._model.optimizer.optimizers
    assert int(weights.iterations) == int(gates.iterations) == 4 * 5
    assert float(weights.learning_rate) == pytest.approx(0.05)
    assert float(gates.learning_rate) == pytest.approx(0.1)


@pytest.mark.parametrize("epochs", [2, 3])
def test_fine_tuning_resumes_too(epochs, tuned, tmp_path, monkeypatch):
    def stop(self, epoch, logs=None):
        if epoch + 1 == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "on_epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        train(PHASES, tmp_path)
    monkeypatch.undo()
    assert len(rows(tmp_path)) == epochs
    train(PHASES, tmp_path)
    assert_same_run(tuned[0], tmp_path)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_results_of_half_precision_are_in_float32(precision, tmp_path):
    config = dataclasses.replace(PHASES, precision=precision)
    run = Training(config, tmp_path)
    report = run.run()
    dense = run._model.get_layer("fc1")
    assert dense.compute_dtype == precision.removeprefix("mixed_")
    assert keras.config.dtype_policy().name == "float32"
    saved = keras.saving.load_model(tmp_path / "model.keras")
    assert {layer.compute_dtype for layer in saved.layers} == {"float32"}
    for value, same in zip(run._model.get_weights(), saved.get_weights()):
        np.testing.assert_array_equal(value, same)
    errors = report["test_error"]
    assert errors["gated"] == errors["tflite"] < 60
    losses = [float(row["loss"]) for row in rows(tmp_path)]
    assert losses[0] > losses[1] > losses[2] > losses[3]


# TensorFlow counts the exchanges between replicas once for a whole process,
# so the strategies of other tests would get in the way of this one.
TWO_REPLICAS = """
import sys
from trainers.run import program
from trainers.run.config import Config
from trainers.run.callbacks import Progress
from trainers.run.training import train

program.set_up(num_logical_cpus=2)
config = Config(
    model="mlp",
    dataset="digits",
    epochs=2,
    batch_size=300,
    learning_rate=0.01,
    ema_momentum=0.9,
    strategy="mirrored",
)
straight, stopped = sys.argv[1:]
train(config, straight)
goes_on = Progress.on_epoch_end


def stop(self, epoch, logs=None):
    raise KeyboardInterrupt


Progress.on_epoch_end = stop
try:
    train(config, stopped)
except KeyboardInterrupt:
    Progress.on_epoch_end = goes_on
    train(config, stopped)
else:
    sys.exit("was not stopped")
"""


def test_two_replicas_resume_too(tmp_path):
    folders = [tmp_path / "straight", tmp_path / "stopped"]
    result = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS, *map(str, folders)],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "Going on after epoch 1." in result.stdout
    assert_same_run(*folders)


def test_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="checkpoint.npz' is damaged"):
        Training(MLP, tmp_path)
    assert path.read_bytes() == b"damaged"
    # Refused, so the folder is still free for another experiment.
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    "changes, steps, message",
    [
        ({}, 3, "`steps_per_execution` must divide the 5 steps"),
        ({}, -1, "`steps_per_execution` must divide"),
        (
            {"strategy": "mirrored"},
            2,
            "`steps_per_execution` must be 1, or 0, with several replicas",
        ),
        (
            {"strategy": "mirrored", "batch_size": 101},
            0,
            "`batch_size` must be a multiple of the 2 replicas",
        ),
        (
            {"strategy": "mirrored", "batch_size": 2000},
            0,
            "`batch_size` must be at most",
        ),
        ({"model": "lenet5", "l0_lambda": (0.1,)}, 0, "`input_shape` must be"),
    ],
)
def test_refused_before_training(changes, steps, message, tmp_path):
    config = Config(**{**vars(MLP), **changes})
    with pytest.raises(ValueError, match=message):
        Training(config, tmp_path, steps_per_execution=steps)
    assert os.listdir(tmp_path) == [".lock"]


def test_steps_per_execution_divides_the_epoch():
    assert training._steps_per_execution(0, 600, 1) == 50
    assert training._steps_per_execution(0, 469, 1) == 7
    assert training._steps_per_execution(0, 97, 1) == 1
    assert training._steps_per_execution(20, 600, 1) == 20
    assert training._steps_per_execution(0, 600, 2) == 1


@pytest.mark.parametrize(
    "size, replicas, first", [(8, 2, 4), (5, 1, 5), (5, 2, 4), (7, 3, 3)]
)
def test_replicas_share_the_first_batch(size, replicas, first):
    import tensorflow as tf

    examples = tf.data.Dataset.from_tensor_slices(
        (np.arange(size), np.arange(size))
    )
    batches = examples.batch(min(size, 4) if replicas != 1 else size)
    found = list(training._for_replicas(batches, replicas))
    assert len(found[0][0]) == first and first % replicas == 0
    np.testing.assert_array_equal(
        np.concatenate([x for x, _ in found]), np.arange(size)
    )


def test_each_replica_needs_an_example():
    import tensorflow as tf

    examples = tf.data.Dataset.from_tensor_slices((np.zeros(2), np.zeros(2)))
    with pytest.raises(ValueError, match="`strategy`.*at most 2.*3 replicas"):
        training._for_replicas(examples.batch(2), 3)
