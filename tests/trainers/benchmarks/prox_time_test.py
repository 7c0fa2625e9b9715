import pytest

from trainers.benchmarks import prox_time
from trainers.benchmarks.measure import format_table


def test_times_the_prox_against_sorting():
    summary = prox_time.benchmark_prox(40, 2)
    names = [f"prox, k={k}, mu={mu}" for k in (4, 20) for mu in (0.001, 0.1)]
    assert list(summary) == ["sort", *names]
    assert summary["sort"]["ratio"] == 1
    assert all(row["median_us"] > 0 for row in summary.values())
    assert "prox, k=20, mu=0.1" in format_table(summary)


def test_refuses_too_few():
    with pytest.raises(ValueError, match="Received: prox=9"):
        prox_time.benchmark_prox(9, 2)
