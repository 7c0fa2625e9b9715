"""The frame of studies, with a training that only draws a number."""

import json
import os

import pytest
from absl import flags

from trainers import benchmark
from trainers.run import program
from trainers.studies import compare
from trainers.studies import deep_r
from trainers.studies import group_sparsity
from trainers.studies import study
from trainers.studies import summary
from trainers.studies import sweep
from trainers.studies import zoo

ROWS = (
    study.Row("few", "few weights", "none"),
    study.Row("all", "all weights", "none"),
)
ERRORS = {"few": (3.0, 1.0, 2.0), "all": (0.5, 0.7)}


class Numbers(study.Study):
    """Errors that are known beforehand."""

    def __init__(self):
        super().__init__("numbers", ROWS)
        self.trained = []

    def result(self, row, seed, folder, where):
        path = os.path.join(folder, row.last_file)
        if not os.path.exists(path):
            self.trained.append((row.name, seed, where["manual_dir"]))
            os.makedirs(folder)
            with open(path, "w") as file:
                json.dump({"error": ERRORS[row.name][seed - 1]}, file)
        with open(path) as file:
            error = json.load(file)["error"]
        return {"name": row.name, "seed": seed, "test_error": error}

    def finish(self, results, workdir):
        return [{**result, "of": len(results)} for result in results]

    def tables(self, results):
        lines = [["row", "median"]]
        for row in self.rows:
            run = self.median_run(results, row)
            if run:
                lines.append([row.title, f"{run['test_error']}"])
        return [lines, []]

    def draw(self, results):
        from matplotlib.figure import Figure

        return Figure()


def values(*arguments):
    defined = flags.FlagValues()
    study.define_flags(defined)
    defined(["study", *arguments])
    return defined


class Days(Numbers):
    """The same, which counts what is saved as done."""

    goes_on = True


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    monkeypatch.setattr(program, "set_up", lambda *numbers: None)


def test_goes_on_from_what_is_saved_elsewhere(tmp_path):
    saved = f"--save_to={tmp_path / 'saved'}"
    first, second = Days(), Days()
    first.run(values("--seeds=1", f"--workdir={tmp_path / 'a'}", saved))
    results = second.run(
        values("--seeds=1,2", f"--workdir={tmp_path / 'b'}", saved)
    )
    assert [run[:2] for run in second.trained] == [("few", 2), ("all", 2)]
    assert [(run["name"], run["seed"]) for run in results] == [
        ("few", 1),
        ("few", 2),
        ("all", 1),
        ("all", 2),
    ]
    assert first.again(tmp_path / "saved") == results


def test_trains_what_is_asked_for_and_collects_what_is_there(tmp_path, capsys):
    numbers = Numbers()
    work, saved = tmp_path / "work", tmp_path / "saved"
    numbers.run(values("--rows=few", "--seeds=3,1", f"--workdir={work}"))
    assert numbers.trained == [("few", 3, None), ("few", 1, None)]
    assert "few weights, seed 3: test error 2.00 %" in capsys.readouterr().out
    results = numbers.run(
        values(
            "--seeds=1,2",
            f"--workdir={work}",
            f"--save_to={saved}",
            "--manual_dir=files",
        )
    )
    # Only what was missing, seed by seed; shown row by row.
    assert numbers.trained[2:] == [
        ("all", 1, "files"),
        ("few", 2, "files"),
        ("all", 2, "files"),
    ]
    assert [(r["name"], r["seed"]) for r in results] == [
        ("few", 1),
        ("few", 2),
        ("few", 3),
        ("all", 1),
        ("all", 2),
    ]
    assert {r["of"] for r in results} == {5}
    assert json.loads((saved / "results.json").read_text()) == results
    # Of two the worse.
    assert (saved / "table.md").read_text() == (
        "| row | median |\n| --- | --- |\n"
        "| few weights | 2.0 |\n| all weights | 0.7 |\n"
    )
    assert (saved / "numbers.png").read_bytes()[1:4] == b"PNG"
    assert (work / "few-1" / "report.json").exists()


def test_makes_tables_again_without_training(tmp_path):
    numbers = Numbers()
    results = [{"name": "all", "seed": 1, "test_error": 0.5}]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert numbers.run(values(f"--again={tmp_path}")) == results
    assert "| all weights | 0.5 |" in (tmp_path / "table.md").read_text()
    assert not numbers.trained
    with pytest.raises(ValueError, match="`again`.*without results.json"):
        numbers.run(values(f"--again={tmp_path}/none"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--rows=few,none"], "`rows` must be of few, all. Received: none"),
        (["--seeds=1,two"], "`seeds` must be whole numbers.*Received: 1,two"),
        ([], "`workdir` must name a folder"),
    ],
)
def test_refuses(arguments, message, tmp_path):
    if "workdir" not in message:
        arguments = [*arguments, f"--workdir={tmp_path}/work"]
    with pytest.raises(ValueError, match=message):
        Numbers().run(values(*arguments))
    assert not (tmp_path / "work").exists()


def test_errors_end_the_program(monkeypatch, capsys):
    monkeypatch.setattr(program, "_quieten", lambda: None)
    monkeypatch.setattr(study.Study, "run", lambda self: [])
    study.main(Numbers)(["study"])
    assert "| row | median |" in capsys.readouterr().out

    def refuses(self):
        raise ValueError("no")

    monkeypatch.setattr(study.Study, "run", refuses)
    with pytest.raises(SystemExit, match="^error: no$"):
        study.main(Numbers)(["study"])


@pytest.mark.parametrize(
    "one",
    [benchmark, compare, deep_r, group_sparsity, summary, sweep, zoo],
    ids=lambda one: one.__name__.split(".")[-1],
)
def test_help_texts_start_with_a_noun(one):
    values = flags.FlagValues()
    one.define_flags(values)
    for name in values:
        first, *_ = values[name].help.strip("<").split()
        assert first[0].isupper() or "|" in first, name
        assert first not in {"The", "A", "What", "Which", "How", "Whether"}


def test_a_study_without_seeds_runs_each_row_once(tmp_path):
    class Once(Numbers):
        has_seeds = False

        def result(self, row, seed, folder, where):
            assert seed is None
            found = super().result(row, 1, folder, where)
            return {"name": row.name, "test_error": found["test_error"]}

    defined = flags.FlagValues()
    study.define_flags(defined, has_seeds=False)
    assert "seeds" not in defined
    defined(["study", f"--workdir={tmp_path}/work"])
    numbers = Once()
    results = numbers.run(defined)
    assert [row["name"] for row in results] == ["few", "all"]
    assert len(numbers.trained) == 2
    assert numbers.run(defined) == results
    assert len(numbers.trained) == 2
