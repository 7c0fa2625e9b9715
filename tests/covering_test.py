import itertools

from tests.covering import pairs
from tests.covering import singles


def test_singles_have_each_value():
    rows = singles("abc", range(2), [True])
    assert rows == [("a", 0, True), ("b", 1, True), ("c", 0, True)]


def test_pairs_have_any_two_values():
    factors = [range(4), "abc", [False, True], "xy"]
    rows = pairs(*factors)
    for i, j in itertools.combinations(range(4), 2):
        found = {(row[i], row[j]) for row in rows}
        assert found == set(itertools.product(factors[i], factors[j]))
    # The two longest factors alone need twelve of the 48.
    assert len(rows) <= 14
    assert pairs("ab", "xyz") == list(itertools.product("ab", "xyz"))
