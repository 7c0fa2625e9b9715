import dataclasses
import io
import json

import keras
import pytest
from absl import flags
from keras import layers

import l0keras
from trainers.studies import road
from trainers.studies import wild
from trainers.studies.corpus import ENTRIES
from trainers.studies.corpus.entry import Entry
from trainers.studies.corpus.entry import entry


def small():
    inputs = keras.Input((4,), name="numbers")
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = layers.GlobalMaxPooling1D()(layers.Embedding(5, 16)(tokens))
    x = layers.BatchNormalization()(layers.Dense(16, "relu")(inputs) + x)
    x = layers.Dense(12, "relu")(x)
    return keras.Model([inputs, tokens], layers.Dense(3)(x))


class Scale(layers.Layer):
    """A layer without a configuration, which no file can bring back."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def build(self, input_shape):
        self.scale = self.add_weight(shape=())

    def call(self, x):
        return self.function(x) * self.scale.value


def with_own_layer():
    inputs = keras.Input((4,))
    x = layers.Dense(16, "relu")(inputs)
    x = layers.Dense(16, "relu")(x)
    return keras.Model(inputs, Scale(lambda x: x)(layers.Dense(2)(x)))


SMALL = Entry("small", "tests", small, high={"tokens": 5})


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the program's `main` with flags and gives what it printed."""

    def run(*arguments):
        values = flags.FlagValues()
        wild.define_flags(values)
        flags.DEFINE_integer("verbosity", -1, "As absl.", flag_values=values)
        argv = values(["wild", *arguments])
        monkeypatch.setattr(wild, "FLAGS", values)
        wild.main(argv)
        return capsys.readouterr().out

    return run


@pytest.fixture
def entries(monkeypatch):
    """A corpus of one."""
    monkeypatch.setattr(wild, "ENTRIES", {"small": SMALL})


def test_a_model_goes_the_whole_road():
    row = road.travel(SMALL)
    assert row["failed"] is None and row["notes"] == []
    checks = {"gated", "stripped", "loaded", "shrunk"}
    assert set(row["difference"]) == checks
    assert max(row["difference"].values()) < road.TOLERANCE
    assert row["gates"]["open"] * 2 == row["gates"]["units"] > 0
    assert road.verdict(SMALL, row) == "ok"
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize("name", ["sparsify", "strip"])
def test_finds_wrong_outputs(monkeypatch, name):
    right = getattr(l0keras, name)

    def wrong(model, **kwargs):
        result = right(model, **kwargs)
        kernel = result.weights[-2]
        kernel.assign(1.001 * kernel)
        return result

    monkeypatch.setattr(l0keras, name, wrong)
    row = road.travel(SMALL)
    assert row["failed"]["step"] == name
    assert "outputs differ by" in row["failed"]["message"]
    assert "road.py" in row["failed"]["line"]
    assert not road.is_fine(SMALL, row)


def test_finds_what_strip_leaves(monkeypatch):
    right = l0keras.strip

    def lazy(model, calls=[]):
        calls.append(model)
        return right(model, round_to=8 if len(calls) == 1 else None)

    monkeypatch.setattr(l0keras, "strip", lazy)
    row = road.travel(SMALL)
    assert row["failed"]["step"] == "strip again"


def test_a_failure_is_written_down():
    def build():
        raise RuntimeError("no such\nlayer | op")

    broken = dataclasses.replace(SMALL, build=build)
    row = road.travel(broken)
    assert row["failed"]["step"] == "build"
    assert road.verdict(broken, row).startswith("fails in build: RuntimeError")
    known = dataclasses.replace(broken, known="strange")
    assert road.verdict(known, row) == "known, strange"


def test_what_keras_cannot_load_is_a_note(monkeypatch):
    stranger = Entry("stranger", "tests", with_own_layer)
    row = road.travel(stranger)
    assert row["failed"] is None
    [note] = row["notes"]
    assert note.startswith("not loaded")
    # But what it can load, the stripped model has to give too.
    monkeypatch.setattr(road, "_loads", lambda *_: True)
    assert road.travel(stranger)["failed"]["step"] == "load"


def test_verdicts_say_what_is_left():
    row = {
        "failed": None,
        "params": {"before": 100, "after": 60},
        "gates": {"vectors": 2},
    }
    assert road.verdict(SMALL, row) == "60% left"
    assert not road.is_fine(SMALL, row)
    embedded = dataclasses.replace(SMALL, limit=0.6, inherent="rows stay")
    assert road.verdict(embedded, row) == "ok, rows stay"
    row["params"]["after"] = 61
    assert road.verdict(embedded, row) == "61% left"
    row["gates"] = {"vectors": 0}
    assert road.verdict(SMALL, row) == "no gates"


def test_the_corpus():
    assert len(ENTRIES) >= 60
    with pytest.raises(ValueError, match="`name` must be new.*U-Net"):
        entry("U-Net", area="tests")(small)
    with pytest.raises(ValueError, match="`inherent`.*limit=0.9"):
        entry("new", area="tests", limit=0.9)(small)
    assert "new" not in ENTRIES


def test_keeps_rows_and_makes_the_table_again(entries, run, tmp_path):
    out = run("--only=^sm", f"--save_to={tmp_path}")
    assert "1 of 1 models are fine" in out
    saved = (tmp_path / "table.md").read_text()
    [row] = json.loads((tmp_path / "wild.json").read_text())
    assert "| small | tests |" in saved and saved == wild.table([row])
    (tmp_path / "table.md").unlink()
    assert run(f"--again={tmp_path}").strip() == saved.strip()
    assert (tmp_path / "table.md").read_text() == saved


def test_skips_what_is_not_there():
    absent = dataclasses.replace(SMALL, needs="no_such_module")
    file = io.StringIO()
    assert wild.drive([absent], file=file) == []
    assert "skipped, no_such_module is not there" in file.getvalue()


def test_the_exit_says_which_failed(entries, run, monkeypatch):
    def sparsify(model, **kwargs):
        raise RuntimeError("no such op")

    monkeypatch.setattr(l0keras, "sparsify", sparsify)
    with pytest.raises(SystemExit, match="1 models failed: small"):
        run()


def test_refuses_what_it_does_not_know(run, tmp_path):
    with pytest.raises(SystemExit, match="`only`.*U-Net.*Received: only=V-Net"):
        run("--only=V-Net")
    with pytest.raises(SystemExit, match="regular expression"):
        run("--only=[")
    with pytest.raises(SystemExit, match="`again`.*wild.json"):
        run(f"--again={tmp_path}")
    (tmp_path / "wild.json").write_text("{")
    with pytest.raises(SystemExit, match="`save_to`"):
        run("--only=U-Net$", f"--save_to={tmp_path}")
