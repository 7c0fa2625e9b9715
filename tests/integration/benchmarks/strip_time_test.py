from tests import networks
from trainers.benchmarks import strip_time


def test_times_strip_and_measures_its_memory():
    summary = strip_time.benchmark_strip({"small": networks.chain}, 2)
    row = summary["small"]
    assert row["build_s"] > 0 and row["strip_s"] > 0 and row["ratio"] > 0
    assert row["peak"] >= 1
    assert row["growth"] == 1
    assert row["check"] > 0
    line = strip_time.format_strip_table(summary).splitlines()[2]
    assert line.split()[0] == "small"
    assert f"{row['ratio']:.2f}" in line
