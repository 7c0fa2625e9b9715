import json

import keras
import pytest
from absl import flags

import l0keras
from trainers import benchmark
from trainers.benchmarks import strip_time


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the program's `main` with flags and gives what it printed."""

    def run(*arguments):
        values = flags.FlagValues()
        benchmark.define_flags(values)
        flags.DEFINE_integer("verbosity", -1, "As absl.", flag_values=values)
        argv = values(["benchmark", *arguments])
        monkeypatch.setattr(benchmark, "FLAGS", values)
        benchmark.main(argv)
        return capsys.readouterr().out

    # TensorFlow is at work already in this process.
    monkeypatch.setattr(benchmark.program, "set_up", lambda threads: None)
    return run


def test_times_training_steps(run, tmp_path):
    path = tmp_path / "steps.json"
    out = run(
        "--model=mlp",
        "--rounds=2",
        "--batch_size=4",
        "--steps_per_execution=2",
        f"--output={path}",
    )
    summary = json.loads(path.read_text())
    assert list(summary) == ["plain", "gated"]
    for row in summary.values():
        assert 0 < row["q1_us"] <= row["median_us"] <= row["q3_us"]
    assert summary["plain"]["ratio"] == 1
    assert f"{summary['gated']['ratio']:.3f}" in out


def test_times_litert_files(run, tmp_path):
    paths = []
    for units in (2, 400):
        model = keras.Sequential(
            [keras.Input((200,)), keras.layers.Dense(units)]
        )
        paths.append(str(tmp_path / f"{units}.tflite"))
        l0keras.export_tflite(model, paths[-1])
    output = tmp_path / "latency.json"
    out = run("--tflite", *paths, "--rounds=3", f"--output={output}")
    assert "1 thread\n" in out and "2 threads\n" in out
    assert all(out.count(path) == 2 for path in paths)
    summary = json.loads(output.read_text())
    assert list(summary) == ["1", "2"]
    assert summary["1"][paths[0]]["ratio"] == 1
    assert summary["1"][paths[1]]["ratio"] > 1.5


def test_times_a_prox(run):
    assert "prox, k=2, mu=0.1" in run("--prox=20", "--rounds=2")
    with pytest.raises(SystemExit, match="`prox` must be at least 10"):
        run("--prox=5")


def test_refuses_what_cannot_be_timed(run, tmp_path):
    missing = str(tmp_path / "none.tflite")
    with pytest.raises(SystemExit, match="no such file"):
        run(f"--tflite={missing}")
    with pytest.raises(SystemExit, match="`tflite_threads` must be integers"):
        run(f"--tflite={missing}", "--tflite_threads=1,0")
    with pytest.raises(SystemExit, match="`tflite`.*once"):
        run(f"--tflite={missing}", f"--tflite={missing}")
    with pytest.raises(SystemExit, match="`output`"):
        run("--model=mlp", f"--output={tmp_path}/none/steps.json")
    with pytest.raises(SystemExit, match="All arguments must be flags"):
        run("mlp")
    with pytest.raises(flags.IllegalFlagValueError, match="rounds"):
        run("--rounds=1")


def test_strips_networks_of_keras_only(run):
    (build,) = strip_time.applications(["MobileNet"]).values()
    assert build.func is keras.applications.MobileNet
    with pytest.raises(SystemExit, match="`strip`.*Received: none"):
        run("--strip=none")
