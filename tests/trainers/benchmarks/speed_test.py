import json

import pytest

from trainers.benchmarks import speed

STEP = {"ratio": 1.25, "ratio_q1": 1.2, "ratio_q3": 1.3}
RESULTS = {
    "mlp": {"plain": {}, "gated": STEP},
    "sparse_dense": {
        "sparse": {"ratio": 0.2, "ratio_q1": 0.1, "ratio_q3": 0.25},
        "sparse_deep_r": STEP,
    },
    "strip": {
        "ResNet50": {"check": 0.3},
        "ResNet152": {"ratio": 1.7, "growth": 0.9, "peak": 2.2},
    },
}


def test_table_says_what_is_reached_and_what_is_missed():
    head, *lines = speed.cells(RESULTS)
    found = {line[0]: line[1:5] for line in lines}
    assert found["gated MLP step to the plain one"] == [
        *("1.25", "1.20-1.30", "<= 1.1", "missed"),
    ]
    assert found["the same, SGD"] == ["5.00", "4.00-10.00", ">= 3", "yes"]
    assert found["the same, SGD in DEEP R"] == [
        *("0.80", "0.77-0.83", ">= 3", "missed"),
    ]
    assert found["strip of ResNet152 to building it"] == [
        *("1.70", "-", "<= 3", "yes"),
    ]
    assert len(lines) == 7 and len(head) == 6


def test_every_row_names_a_run_that_the_benchmark_knows():
    from absl import flags

    from trainers import benchmark

    assert {row.run for row in speed.ROWS} == set(speed.RUNS)
    for arguments in speed.RUNS.values():
        values = flags.FlagValues()
        benchmark.define_flags(values)
        assert values(["benchmark", *arguments]) == ["benchmark"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    from absl import flags

    measured = []

    def measure(name):
        measured.append(name)
        return {row.of: STEP for row in speed.ROWS if row.run == name} | {
            "ResNet50": {"check": 0.1},
            "ResNet152": {"ratio": 1.0, "growth": 1.0, "peak": 1.0},
        }

    def run(*arguments):
        values = flags.FlagValues()
        speed.define_flags(values)
        values(["speed", f"--save_to={tmp_path}", *arguments])
        monkeypatch.setattr(speed, "FLAGS", values)
        measured.clear()
        speed.main(["speed"])
        return list(measured)

    monkeypatch.setattr(speed, "measure", measure)
    monkeypatch.setattr(speed.program, "_quieten", lambda: None)
    return run


def test_measured_lines_are_kept(run, tmp_path):
    assert run() == list(speed.RUNS)
    assert run() == []
    assert run("--runs=mlp,prox") == ["mlp", "prox"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == set(speed.RUNS)
    assert "cores" in results["mlp"]["machine"]
    table = (tmp_path / "table.md").read_text()
    assert len(table.splitlines()) == len(speed.ROWS) + 2
    with pytest.raises(SystemExit, match="`runs` must be of lenet5.*none"):
        run("--runs=none")
