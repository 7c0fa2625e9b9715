import pytest

from trainers.benchmarks import measure


def test_interleave_takes_turns():
    calls = []
    seconds = measure.interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4
    )
    # Once each to warm up; then neither always has the other's cache.
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab" + "ba"
    assert [len(values) for values in seconds.values()] == [4, 4]
    assert all(value > 0 for values in seconds.values() for value in values)


def test_summarize():
    summary = measure.summarize(
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
