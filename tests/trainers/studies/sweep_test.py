"""The sweep, on a small network and few images."""

import functools
import json

import keras
import numpy as np
import pytest
from absl import flags

import l0keras
from l0keras import models
from trainers.data import input_pipeline
from trainers.studies import sweep
from trainers.studies import sweep_plot

SETTINGS = sweep.Settings(
    prices=(30.0,), epochs=1, finetune_epochs=1, batch_size=16, image_size=8
)


@pytest.fixture(scope="module")
def data():
    digits = input_pipeline.load("digits")
    return input_pipeline.Data(
        digits.train_images[:64],
        digits.train_labels[:64],
        digits.test_images[:40],
        digits.test_labels[:40],
        classes=10,
        white=digits.white,
    )


@pytest.fixture(autouse=True)
def small(monkeypatch):
    tiny = functools.partial(models.vgg, ((4, 1), (6, 1)))
    monkeypatch.setattr(sweep, "NETWORKS", {"tiny": tiny})


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def rows(data, workdir):
    with pytest.MonkeyPatch.context() as patch:
        tiny = functools.partial(models.vgg, ((4, 1), (6, 1)))
        patch.setattr(sweep, "NETWORKS", {"tiny": tiny})
        return sweep.Sweep("tiny", 3, SETTINGS, data, workdir).run()


def test_runs_every_method_at_every_price(rows):
    assert [(row["method"], row["price"]) for row in rows] == [
        ("dense", 0.0),
        ("independent", 30.0),
        ("forward", 30.0),
        ("backward", 30.0),
    ]
    dense = models.vgg(((4, 1), (6, 1)), (8, 8, 1))
    for row in rows:
        assert row["seed"] == 3 and row["network"] == "tiny"
        assert row["dense_macs"] == l0keras.count_macs(dense)
        assert row["dense_params"] == dense.count_params()
        assert row["macs"] <= row["dense_macs"]
        assert row["difference"] < 1e-5
        assert 0 <= row["test_error"] <= 100
    assert rows[0]["macs"] == rows[0]["dense_macs"]


def test_goes_on_with_what_is_missing(rows, data, workdir, monkeypatch):
    path = f"{workdir}/tiny-3/rows.json"
    with open(path, "w") as file:
        json.dump(rows[:-1], file)
    built = []
    build = sweep.NETWORKS["tiny"]

    def counted(**arguments):
        built.append(arguments)
        return build(**arguments)

    monkeypatch.setitem(sweep.NETWORKS, "tiny", counted)
    again = sweep.Sweep("tiny", 3, SETTINGS, data, workdir).run()
    # The dense network to count, and the last one to train.
    assert [arguments.get("dependence") for arguments in built] == [
        None,
        "backward",
    ]
    # The price is that of all multiply-accumulates.
    assert built[1]["l0"] * again[0]["dense_macs"] == pytest.approx(30.0)
    assert built[1]["cost"] == "macs"
    assert again[:-1] == rows[:-1]
    # Seeds make it the same run.
    assert {**again[-1], "seconds": 0} == {**rows[-1], "seconds": 0}
    assert sweep.collect(workdir) == again


def test_refuses_a_workdir_of_other_settings(rows, data, workdir):
    other = sweep.Settings(prices=(2.0,))
    with pytest.raises(ValueError, match="workdir"):
        sweep.Sweep("tiny", 3, other, data, workdir)


def test_refuses_an_unknown_network(data, workdir):
    with pytest.raises(ValueError, match="`networks`.*tiny.*Received: huge"):
        sweep.Sweep("huge", 3, SETTINGS, data, workdir)


@pytest.mark.parametrize(
    "name, value",
    [
        ("prices", ()),
        ("prices", (1.0, 0.0)),
        ("epochs", 0),
        ("learning_rate", -0.1),
        ("l2", -1.0),
    ],
)
def test_refuses_wrong_settings(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}="):
        sweep.Settings(**{name: value})


def test_fine_tuning_leaves_the_gates_alone(data, monkeypatch, tmp_path):
    """The first of two trainings moves what makes gates, the last does not."""
    moved = []
    fit = keras.Model.fit

    def watched(model, *arguments, **keywords):
        names = [layer.name for layer in model.layers]
        if "gate_generator" not in names:
            return fit(model, *arguments, **keywords)
        generator = model.get_layer("gate_generator")
        before = [
            np.concatenate([np.ravel(w) for w in layer.get_weights()])
            for layer in (generator, model.layers[1])
        ]
        history = fit(model, *arguments, **keywords)
        after = [
            np.concatenate([np.ravel(w) for w in layer.get_weights()])
            for layer in (generator, model.layers[1])
        ]
        moved.append([np.any(a != b) for a, b in zip(after, before)])
        return history

    monkeypatch.setattr(keras.Model, "fit", watched)
    sweep.Sweep("tiny", 1, SETTINGS, data, str(tmp_path)).run()
    assert moved == 3 * [[True, True], [False, True]]


def row(method, price, seed, error, macs):
    return {
        "network": "tiny",
        "method": method,
        "price": price,
        "seed": seed,
        "test_error": error,
        "macs": macs,
        "params": macs / 10,
        "dense_macs": 2000,
    }


POINTS = [
    row("forward", 1.0, 1, 9.0, 1000),
    row("forward", 1.0, 2, 11.0, 1500),
    row("dense", 0.0, 1, 8.0, 2000),
]


def test_summary_is_the_mean_over_seeds():
    forward, dense = sweep.summary(POINTS)
    assert forward["method"] == "forward" and dense["method"] == "dense"
    assert forward["test_error"] == 10.0
    assert (forward["low"], forward["high"]) == (9.0, 11.0)
    assert forward["macs"] == 1250 and forward["params"] == 125
    assert forward["seeds"] == 2 and dense["seeds"] == 1


def test_table():
    head, _, dense, forward = sweep.table(sweep.summary(POINTS)).splitlines()
    assert head.startswith("| network | gates | price | test error |")
    assert dense.startswith("| tiny | dense | 0 | 8.00 % |")
    assert forward == (
        "| tiny | forward | 1 | 10.00 % | 9.00-11.00 | 1,250 | 62 % | 125 | 2 |"
    )


def test_picture_has_a_line_for_each_method():
    points = sweep.summary([*POINTS, row("forward", 3.0, 1, 12.0, 500)])
    figure = sweep_plot.draw(points)
    (axes,) = figure.axes
    lines = {
        container.get_label(): container.lines[0].get_xydata()
        for container in axes.containers
    }
    assert set(lines) == {"dense", "Dep-L0, forward"}
    np.testing.assert_allclose(
        lines["Dep-L0, forward"], [[0.0005, 12.0], [0.00125, 10.0]]
    )


def test_program(data, tmp_path, monkeypatch, capsys):
    values = flags.FlagValues()
    sweep.define_flags(values)
    flags.DEFINE_integer("verbosity", -1, "As absl.", flag_values=values)
    argv = values(
        [
            "sweep",
            "--networks=tiny",
            "--seeds=4",
            "--prices=1",
            "--epochs=1",
            "--finetune_epochs=1",
            f"--workdir={tmp_path}/work",
            f"--save_to={tmp_path}/saved",
        ]
    )
    monkeypatch.setattr(sweep, "FLAGS", values)
    monkeypatch.setattr(sweep.devices, "set_up", lambda threads: None)
    monkeypatch.setattr(sweep.input_pipeline, "load", lambda *_: data)
    sweep.main(argv)
    out = capsys.readouterr().out
    rows = json.loads((tmp_path / "saved/rows.json").read_text())
    assert [row["seed"] for row in rows] == [4] * 4
    assert (tmp_path / "saved/table.md").read_text() in out
    assert (tmp_path / "saved/sweep.png").read_bytes()[1:4] == b"PNG"
    values.networks = ["none"]
    with pytest.raises(SystemExit, match="`networks`.*none"):
        sweep.main(argv)
