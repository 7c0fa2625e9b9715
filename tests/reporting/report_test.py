import json
import sys

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.layers import L0Conv2D
from l0keras.layers import L0Dense
from l0keras.targets import Target
from tests import networks

MIXES = "kept as it is: each of its channels depends on all channels"


@pytest.fixture
def models():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            L0Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(name="flatten"),
            L0Dense(5, name="dense"),
            layers.Softmax(name="softmax"),
        ]
    )
    conv, dense = l0keras.gates_of(model)
    conv.log_alpha.assign([5.0, -5.0, 5.0, -5.0])
    log_alpha = np.full(64, -5.0)
    log_alpha[[0, 2, 4]] = 5.0
    dense.log_alpha.assign(log_alpha)
    return model, l0keras.strip(model)


def test_numbers(models):
    report = l0keras.report(*models)
    conv, dense = report.layers
    assert conv == {
        "name": "conv",
        "type": "Conv2D",
        "units": [4, 2],
        # Of the gated layer with its log_alpha.
        "params": [4 * 10 + 4, 2 * 10],
        "macs": [16 * 9 * 4, 16 * 9 * 2],
        "bytes": [4 * 44, 4 * 20],
    }
    assert dense["units"] == [5, 5]
    assert dense["params"] == [65 * 5 + 64, 3 * 5 + 5]
    assert report.total["params"] == [44 + 389, 20 + 20]
    assert report.total["macs"] == [576 + 320, 288 + 15]
    assert report.total["bytes"] == [4 * 433, 4 * 40]
    assert report.architecture == "2-3"


def test_reasons_and_selections(models):
    report = l0keras.report(*models)
    assert report.kept == [
        {
            "layer": "softmax",
            "reason": MIXES,
        }
    ]
    assert report.selected == [{"layer": "dense", "reads": 3, "of": 32}]


def test_json(models):
    report = l0keras.report(*models)
    assert json.loads(report.to_json(indent=2)) == report.to_dict()


def test_print(models):
    text = str(l0keras.report(*models))
    lines = text.splitlines()
    assert lines[0].split() == [
        "layer",
        "type",
        "units",
        "params",
        "macs",
        "bytes",
    ]
    conv = next(line for line in lines if line.startswith("conv"))
    assert conv.split() == (
        "conv Conv2D 4 -> 2 44 -> 20 576 -> 288 176 -> 80".split()
    )
    assert any(line.startswith("all ") for line in lines)
    assert "Architecture: 2-3" in lines
    assert "Nothing was cut" not in text
    assert f"Kept: 'softmax' {MIXES}" in lines


def test_a_model_without_gates():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    report = l0keras.report(model, l0keras.strip(model))
    assert report.architecture == ""
    assert report.total["params"] == [8, 8]
    assert report.kept == []
    assert "Nothing was cut" in str(report)


def test_macs_are_open_where_shapes_are():
    model = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")]
    )
    report = l0keras.report(model, l0keras.strip(model))
    assert report.layers[0]["macs"] == [-1, -1]
    assert report.total["macs"] == [-1, -1]
    assert "unknown" in str(report)


def test_layers_that_are_gone_are_named():
    model = networks.residual()
    gated = l0keras.sparsify(model)
    closed = [gate for gate in gated.layers if gate.name.endswith("_gate")][1]
    closed.log_alpha.assign(np.full(closed.log_alpha.shape, -5.0))
    report = l0keras.report(gated, l0keras.strip(gated))
    convs = [x.name for x in model.layers if isinstance(x, layers.Conv2D)]
    assert set(convs[1:3]) <= set(report.removed)
    assert not set(report.removed) & {convs[0], *convs[3:], closed.name}
    assert f"Removed: {report.removed[0]}" in str(report)


def test_plot(models, tmp_path):
    report = l0keras.report(*models)
    figure = report.plot()
    left, right = figure.axes
    widths = [[bar.get_width() for bar in bars] for bars in left.containers]
    assert widths == [[44, 389], [20, 20]]
    assert [x.get_text() for x in left.get_yticklabels()] == ["conv", "dense"]
    assert left.get_title(loc="left") == "parameters: 433 to 40 (9.2%)"
    assert right.get_title(loc="left") == "MACs: 896 to 303 (33.8%)"
    figure.savefig(tmp_path / "report.png")


def closed(units=8, left=3):
    """A network, one layer of which has few units with weights."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(2, name="logits"),
        ]
    )
    kernel, bias = model.get_layer("hidden").get_weights()
    kernel[:, left:] = 0
    model.get_layer("hidden").set_weights([kernel, bias])
    return model


def two_hidden(left):
    """Two layers of 8 units; the first `left` of each have weights.

    The logits select what they read of the first input.
    """
    inputs = keras.Input((4, 2)), keras.Input((4,))
    x = layers.Dense(8, activation="relu", name="one")(inputs[1])
    x = layers.Dense(8, activation="relu", name="two")(x)
    x = layers.Concatenate()([layers.Flatten()(inputs[0]), x])
    model = keras.Model(inputs, layers.Dense(2, name="logits")(x))
    for name, count in zip(("one", "two"), left):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[:, count:] = 0
        model.get_layer(name).set_weights([kernel, bias])
    return model


@pytest.mark.parametrize(
    ("sizes", "widths", "said"),
    [
        ({"min_units": 6}, [6, 6], "would lose all but 3 of its units; keeps"),
        ({"round_to": 3}, [3, 6], None),
        ({"round_to": 4}, [4, 8], None),
        ({"min_units": 2, "round_to": 4}, [4, 8], None),
    ],
)
def test_units_that_were_asked_for_are_said(sizes, widths, said, tmp_path):
    model = two_hidden([3, 5])
    small = l0keras.strip(model, **sizes)
    assert [small.get_layer(n).units for n in ("one", "two")] == widths
    expected = l0keras.report(model, small).to_dict()
    reasons = {item["layer"]: item["reason"] for item in expected["kept"]}
    assert (said or "") in reasons.get("one", "")
    assert said is None or "one" in reasons
    # A file is plain Keras, so the widths have to tell.
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert l0keras.report(model, loaded).to_dict() == expected


def test_training_keeps_the_record():
    model = closed()
    small = l0keras.strip(model, min_units=6)
    small.compile("sgd", "mse")
    small.fit(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
    (item,) = _kept(model, small)
    assert item == {
        "layer": "hidden",
        "reason": "would lose all but 3 of its units; keeps 6",
    }


def test_widths_that_no_single_size_explains_are_said():
    model = two_hidden([1, 5])
    small = l0keras.strip(model, min_units=3, round_to=2)
    assert [small.get_layer(n).units for n in ("one", "two")] == [4, 6]
    one, two = _kept(model, keras.models.clone_model(small))
    assert "keeps 4 of its units where 1 would do" in one["reason"]
    assert "keeps 6 of its units where 5 would do" in two["reason"]


def _kept(before, after):
    return l0keras.report(before, after).kept


def test_the_record_is_read_and_not_planned_again(models, monkeypatch):
    expected = l0keras.report(*models).to_dict()

    def refuse(*args, **kwargs):
        raise AssertionError("planned again")

    module = sys.modules["l0keras.reporting.report"]
    monkeypatch.setattr(module, "plan", refuse)
    assert l0keras.report(*models).to_dict() == expected


def test_a_loaded_model_has_the_same_report(models, tmp_path):
    gated, small = models
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    again = l0keras.report(gated, loaded)
    assert again.to_dict() == l0keras.report(gated, small).to_dict()


def test_models_that_do_not_belong_together_are_refused(models):
    gated, small = models
    with pytest.raises(ValueError, match="`after`.*with gates.*are swapped"):
        l0keras.report(small, gated)
    model = closed()
    stripped = l0keras.strip(model)
    with pytest.raises(ValueError, match="'hidden' with 8.*has 3.*are swap"):
        l0keras.report(stripped, model)
    with pytest.raises(ValueError, match="`after` must be the result.*inputs"):
        l0keras.report(gated, stripped)
    other = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="new")])
    with pytest.raises(ValueError, match="'new', which is not in `before`"):
        l0keras.report(model, other)


def test_closed_gates_that_cut_nothing_are_said():
    class Squares(layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=(6, 6))

        def call(self, x):
            return keras.ops.matmul(x, self.scale.value)

    inputs = keras.Input((3,))
    x = l0keras.layers.L0Dense(6, granularity="output", name="gated")(inputs)
    model = keras.Model(inputs, Squares(name="own")(x))
    gate = l0keras.gates_of(model)[0]
    gate.log_alpha.assign(np.where(np.arange(6) < 2, -8.0, 3.0))
    report = l0keras.report(model, l0keras.strip(model))
    assert report.closed == [2, 6]
    assert "Nothing was cut, though 2 of 6 gates are closed" in str(report)
    (kept,) = report.kept
    assert kept["layer"] == "own" and "no rule for Squares" in kept["reason"]
    # Its matrix may be multiplied in any way.
    assert report.layers[-1]["macs"] == [-1, -1]
    with pytest.raises(ValueError, match="layer 'own' of type Squares"):
        l0keras.count_macs(model)


@pytest.mark.parametrize(
    "asked",
    [
        {"target": Target("params", 0.5), "steps": 2},
        {"l0": 1e-4, "dependence": "forward"},
    ],
)
def test_what_makes_gates_is_no_part_of_the_network(asked):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation="relu", name="hidden"),
            layers.Dense(3, name="out"),
        ]
    )
    gated = l0keras.sparsify(model, **asked)
    report = l0keras.report(gated, l0keras.strip(gated))
    assert [row["name"] for row in report.layers] == ["hidden", "out"]
    assert report.total["params"] == [model.count_params()] * 2
    assert not report.removed
