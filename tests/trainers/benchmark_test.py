import json

import keras
import pytest
from absl import flags

import l0keras
from tests import networks
from trainers import benchmark


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
    monkeypatch.setattr(benchmark.devices, "set_up", lambda threads: None)
    return run


def test_interleave_takes_turns():
    calls = []
    seconds = benchmark.interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4
    )
    # Once each to warm up; then neither always has the other's cache.
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab" + "ba"
    assert [len(values) for values in seconds.values()] == [4, 4]
    assert all(value > 0 for values in seconds.values() for value in values)


def test_summarize():
    summary = benchmark.summarize(
        {"plain": [1.0, 2.0, 4.0], "gated": [2.0, 3.0, 10.0]}, per_call=10
    )
    assert summary["plain"]["median_us"] == pytest.approx(2e5)
    assert summary["gated"]["median_us"] == pytest.approx(3e5)
    assert summary["gated"]["q1_us"] == pytest.approx(2.5e5)
    assert summary["gated"]["q3_us"] == pytest.approx(6.5e5)
    assert summary["plain"]["ratio"] == 1
    # The median of 2, 1.5 and 2.5, not the ratio of the medians.
    assert summary["gated"]["ratio"] == pytest.approx(2.0)
    assert summary["gated"]["ratio_q3"] == pytest.approx(2.25)


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


def test_a_step_trains_as_often_as_it_says():
    model = keras.Sequential(
        [keras.Input((3,)), l0keras.layers.L0Dense(2, seed=1)]
    )
    step = benchmark.training_steps(model, 4, 3)
    for _ in range(2):
        step()
    assert int(model.optimizer.iterations) == 6


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


def test_times_strip_and_measures_its_memory():
    summary = benchmark.benchmark_strip({"small": networks.chain}, 2)
    row = summary["small"]
    assert row["build_s"] > 0 and row["strip_s"] > 0 and row["ratio"] > 0
    assert row["peak"] >= 1
    assert row["growth"] == 1
    line = benchmark.format_strip_table(summary).splitlines()[1]
    assert line.split()[0] == "small"
    assert f"{row['ratio']:.2f}" in line


def test_strips_networks_of_keras_only(run):
    (build,) = benchmark.applications(["MobileNet"]).values()
    assert build.func is keras.applications.MobileNet
    with pytest.raises(SystemExit, match="`strip`.*Received: none"):
        run("--strip=none")
