"""The sweep, on a small network and few images."""

import dataclasses
import functools

import keras
import numpy as np
import pytest

import l0keras
from l0keras import models
from trainers.data import input_pipeline
from trainers.studies import plots
from trainers.studies import sweep

SETTINGS = sweep.Settings(
    epochs=1,
    finetune_epochs=1,
    batch_size=16,
    image_size=8,
    validation_examples=32,
)
ROWS = tuple(
    sweep.Row(method, method, network="tiny", method=method, price=price)
    for method, price in (
        ("dense", 0.0),
        ("independent", 30.0),
        ("forward", 30.0),
        ("backward", 30.0),
    )
)
STUDY = sweep.Sweep(ROWS, SETTINGS)
WHERE = {"data_dir": None, "manual_dir": None}


@pytest.fixture(scope="module")
def data():
    digits = input_pipeline.load("digits")
    return input_pipeline.Data(
        digits.train_images[:96],
        digits.train_labels[:96],
        digits.test_images[:40],
        digits.test_labels[:40],
        classes=10,
        white=digits.white,
    )


@pytest.fixture(scope="module", autouse=True)
def small(data):
    tiny = functools.partial(models.vgg, ((4, 1), (6, 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "NETWORKS", {"tiny": tiny})
        patch.setattr(sweep, "load", lambda settings, **where: data)
        yield


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("sweep"))


def result(row, seed, workdir, study=STUDY):
    return study.result(row, seed, row.folder(workdir, seed), WHERE)


@dataclasses.dataclass
class Seen:
    """What trainings did: results, arguments of networks, moved weights."""

    rows: list
    built: list
    moved: list


@pytest.fixture(scope="module")
def seen(small, workdir):
    build, fit, found = (
        sweep.NETWORKS["tiny"],
        keras.Model.fit,
        Seen([], [], []),
    )

    def built(**arguments):
        found.built.append(arguments)
        return build(**arguments)

    def watched(model, *arguments, **keywords):
        names = [layer.name for layer in model.layers]
        if "gate_generator" not in names:
            return fit(model, *arguments, **keywords)
        watched = model.get_layer("gate_generator"), model.layers[1]
        before = [flat(layer) for layer in watched]
        history = fit(model, *arguments, **keywords)
        found.moved.append(
            [np.any(flat(one) != old) for one, old in zip(watched, before)]
        )
        return history

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sweep.NETWORKS, "tiny", built)
        patch.setattr(keras.Model, "fit", watched)
        found.rows += [result(row, 3, workdir) for row in ROWS]
    return found


def flat(layer):
    return np.concatenate([np.ravel(w) for w in layer.get_weights()])


@pytest.fixture(scope="module")
def rows(seen):
    return seen.rows


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
        assert 0 <= row["validation_error"] <= 100
        assert "test_error" not in row
    assert rows[0]["macs"] == rows[0]["dense_macs"]


def test_networks_have_the_price_of_all_their_work(seen):
    # For each row the dense network to count, and the one to train.
    trained = seen.built[1::2]
    chains = [arguments.get("dependence") for arguments in trained]
    assert chains == [None, None, "forward", "backward"]
    for arguments, row in zip(trained[1:], seen.rows[1:]):
        assert arguments["l0"] * row["dense_macs"] == pytest.approx(30.0)
        assert arguments["cost"] == "macs"


def test_fine_tuning_leaves_the_gates_alone(seen):
    """The first of two trainings moves the generator, the last does not."""
    assert seen.moved == 3 * [[True, True], [False, True]]


def test_seeds_make_it_the_same_run(rows, tmp_path):
    again = result(ROWS[3], 3, str(tmp_path))
    assert {**again, "seconds": 0} == {**rows[3], "seconds": 0}


def test_finished_runs_are_collected_and_not_trained(
    rows, workdir, monkeypatch
):
    monkeypatch.setattr(sweep, "Run", None)
    monkeypatch.setattr(sweep, "chosen", lambda *arguments: [])
    assert STUDY.collect(workdir) == rows


def test_examples_of_the_test_set_choose_nothing(data, tmp_path, monkeypatch):
    """Runs of other test examples, which are wrong, are the same runs."""
    other = dataclasses.replace(data, test_labels=(data.test_labels + 1) % 10)
    one = result(ROWS[1], 1, str(tmp_path / "one"))
    monkeypatch.setattr(sweep, "load", lambda settings, **where: other)
    again = result(ROWS[1], 1, str(tmp_path / "other"))
    assert {**again, "seconds": 0} == {**one, "seconds": 0}


def test_what_is_chosen_is_trained_on_all_examples_and_tested(
    rows, workdir, monkeypatch
):
    trained, run = [], sweep.Run

    def watched(row, seed, settings, data):
        trained.append((row.name, seed, data.num_train, len(data.test_labels)))
        return run(row, seed, settings, data)

    monkeypatch.setattr(sweep, "Run", watched)
    study = sweep.Sweep(ROWS, SETTINGS, 0.999)
    results = study.collect(workdir)
    tested = results[len(rows) :]
    assert [one["name"] for one in tested][0] == "dense"
    assert trained == [(one["name"], 3, 96, 40) for one in tested]
    for one in tested:
        assert 0 <= one["test_error"] <= 100
        assert "validation_error" not in one
    # The same again trains nothing.
    monkeypatch.setattr(sweep, "Run", None)
    assert study.collect(workdir) == results


def point(method, price, error, macs, seeds=(1, 2), examples="held out"):
    return {
        "network": "tiny",
        "method": method,
        "price": price,
        "examples": examples,
        "error": error,
        "macs": macs,
        "dense_macs": 100,
        "seeds": list(seeds),
    }


GRID = tuple(
    sweep.Row(f"{method} {price}", "", "", {}, "tiny", method, price)
    for method, price in (
        ("dense", 0.0),
        ("forward", 1.0),
        ("forward", 3.0),
        ("forward", 10.0),
        ("backward", 1.0),
    )
)
FOUND = [
    point("dense", 0.0, 5.0, 100),
    point("forward", 1.0, 5.0, 61),
    point("forward", 3.0, 7.0, 50),
    point("forward", 10.0, 6.0, 40),
    point("backward", 1.0, 4.0, 90),
]


def test_the_smallest_error_with_few_macs_is_chosen():
    def names(points, share):
        return [row.name for row in sweep.chosen(points, GRID, share)]

    assert names(FOUND, 0.6) == ["dense 0.0", "forward 10.0"]
    assert names(FOUND, 0.95) == ["dense 0.0", "forward 1.0", "backward 1.0"]
    # Errors of the test set do not count.
    tested = point("forward", 3.0, 0.0, 50, examples="test")
    assert names([*FOUND, tested], 0.6) == names(FOUND, 0.6)


def test_nothing_is_chosen_before_all_is_there():
    assert sweep.chosen(FOUND[:-1], GRID, 0.6) == []
    short = [*FOUND[:-1], point("backward", 1.0, 4.0, 90, seeds=[1])]
    assert sweep.chosen(short, GRID, 0.6) == []


@pytest.mark.parametrize("share", [0, 1, float("nan")])
def test_refuses_a_share_out_of_range(share):
    with pytest.raises(ValueError, match=r"`macs_share` must be in \(0, 1\)"):
        sweep.Sweep(ROWS, SETTINGS, share)


def test_refuses_a_workdir_of_other_settings(rows, workdir):
    other = sweep.Sweep(ROWS, sweep.Settings(epochs=2))
    with pytest.raises(ValueError, match="workdir.*differs in epochs"):
        result(ROWS[0], 3, workdir, other)


def test_rows_are_all_methods_at_all_prices():
    assert len(sweep.ROWS) == len({row.name for row in sweep.ROWS}) == 20


def row(method, price, seed, error, macs, kind="validation_error"):
    return {
        "network": "tiny",
        "method": method,
        "price": price,
        "seed": seed,
        kind: error,
        "macs": macs,
        "params": macs / 10,
        "dense_macs": 2000,
    }


POINTS = [
    row("forward", 1.0, 1, 9.0, 1000),
    row("forward", 1.0, 2, 11.0, 1500),
    row("dense", 0.0, 1, 8.0, 2000),
    row("dense", 0.0, 1, 8.5, 2000, "test_error"),
]


def test_summary_is_the_mean_over_seeds():
    forward, dense, tested = sweep.summary(POINTS)
    assert forward["method"] == "forward" and dense["method"] == "dense"
    assert forward["error"] == 10.0
    assert (forward["low"], forward["high"]) == (9.0, 11.0)
    assert forward["macs"] == 1250 and forward["params"] == 125
    assert forward["seeds"] == [1, 2] and dense["seeds"] == [1]
    assert dense["examples"] == "held out" and dense["error"] == 8.0
    assert tested["examples"] == "test" and tested["error"] == 8.5


def test_table():
    head, dense, tested, forward = sweep.table(sweep.summary(POINTS))
    assert head[:5] == ["network", "gates", "price", "examples", "error"]
    assert dense[:5] == ["tiny", "dense", "0", "held out", "8.00 %"]
    assert tested[:5] == ["tiny", "dense", "0", "test", "8.50 %"]
    assert forward == [
        *("tiny", "forward", "1", "held out", "10.00 %", "9.00-11.00"),
        *("1,250", "62 %", "125", "1, 2"),
    ]


def test_picture_has_a_line_for_each_method():
    points = sweep.summary([*POINTS, row("forward", 3.0, 1, 12.0, 500)])
    figure = plots.prices(points)
    (axes,) = figure.axes
    lines = {
        container.get_label(): container.lines[0].get_xydata()
        for container in axes.containers
    }
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["dense", "Dep-L0, forward"]
    np.testing.assert_allclose(
        lines["Dep-L0, forward"], [[0.0005, 12.0], [0.00125, 10.0]]
    )
    hollow = axes.containers[1].lines[0]
    assert hollow.get_markerfacecolor() == "none"
    np.testing.assert_allclose(hollow.get_xydata(), [[0.002, 8.5]])
