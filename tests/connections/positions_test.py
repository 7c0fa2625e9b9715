import numpy as np
import pytest
from keras import ops

from l0keras.connections.positions import draw_positions
from l0keras.connections.positions import scatter
from l0keras.connections.positions import signs_at
from l0keras.connections.positions import sorted_order


@pytest.mark.parametrize("size, count", [(40, 13), (40, 27), (40, 40)])
def test_uniform_without_replacement(size, count):
    rng = np.random.default_rng(0)
    counts = np.zeros(size)
    pairs = np.zeros((size, size))
    for _ in range(3000):
        drawn = draw_positions(size, count, rng)
        assert drawn.dtype == "int32" and len(drawn) == count
        assert (np.diff(drawn) > 0).all()
        counts[drawn] += 1
        pairs[np.ix_(drawn, drawn)] += 1
    expected = 3000 * count / size
    deviation = np.sqrt(expected * (1 - count / size)) + 1e-9
    assert (abs(counts - expected) < 5 * deviation).all()
    together = pairs[np.triu_indices(size, 1)]
    expected *= (count - 1) / (size - 1)
    assert abs(together - expected).max() <= 5.5 * np.sqrt(expected)


def test_drawing_few_of_very_many_takes_no_memory_for_all():
    drawn = draw_positions(2**30, 1000, np.random.default_rng(0))
    assert len(drawn) == 1000
    assert drawn.max() > 2**29


def test_signs_are_fixed_and_look_random():
    positions = ops.arange(100_000, dtype="int32")
    signs = ops.convert_to_numpy(signs_at(positions, 3))
    assert set(signs) == {-1, 1}
    others = ops.convert_to_numpy(signs_at(positions, 4))
    for product in (
        signs,
        signs[1:] * signs[:-1],
        signs[784:] * signs[:-784],
        signs * others,
    ):
        assert abs(product.mean()) < 0.015
    some = np.array([99_999, 7, 7], "int32")
    found = ops.convert_to_numpy(signs_at(ops.convert_to_tensor(some), 3))
    np.testing.assert_array_equal(found, signs[some])


@pytest.mark.parametrize("changed", [0, 3, 50])
def test_order_of_mostly_sorted_positions(changed):
    rng = np.random.default_rng(changed)
    positions = np.sort(rng.permutation(1000)[:50]).astype("int32")
    where = rng.permutation(50)[:changed]
    free = np.setdiff1d(np.arange(1000), positions)
    positions[where] = rng.permutation(free)[:changed]
    flags = np.zeros(50, bool)
    flags[where] = True
    order = sorted_order(
        ops.convert_to_tensor(positions), ops.convert_to_tensor(flags)
    )
    np.testing.assert_array_equal(
        positions[ops.convert_to_numpy(order)], np.sort(positions)
    )


def test_scatter_leaves_zeros():
    found = scatter(
        ops.convert_to_tensor([3, 1]), ops.convert_to_tensor([2.0, 5.0]), 5
    )
    assert list(ops.convert_to_numpy(found)) == [0, 5, 0, 2, 0]
