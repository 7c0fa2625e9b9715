import keras
import numpy as np
import pytest
from keras import ops

from l0keras.connections import rewire as module
from l0keras.connections.masked_pool import MaskedPool
from l0keras.connections.pool import members_of
from l0keras.connections.rewire import rewire_crowded
from l0keras.connections.rewire import rewire_on_host
from l0keras.connections.seeds import StepSeed
from l0keras.connections.segments import Segments
from l0keras.connections.storage_pool import StoragePool
from l0keras.layers import SparseDense
from l0keras.optimizers import DeepR
from tests.optimizers.sparse_training import array
from tests.optimizers.sparse_training import chi_square
from tests.optimizers.sparse_training import compiled
from tests.optimizers.sparse_training import kernel


def tensors(positions, dead):
    return (
        ops.convert_to_tensor(np.asarray(positions, "int32")),
        ops.convert_to_tensor(np.asarray(dead, bool)),
    )


@pytest.mark.parametrize("seed", range(3))
def test_all_ways_to_find_free_positions_agree(seed):
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.permutation(60)[:25])
    dead = rng.random(25) < 0.4
    proposals = rng.integers(0, 60, 40).astype("int32")
    taken = set(positions[~dead])
    counts = {p: list(proposals).count(p) for p in proposals}
    expected = [counts[p] == 1 and p not in taken for p in proposals]
    assert 3 < sum(expected) < 37
    arguments = (ops.convert_to_tensor(proposals), *tensors(positions, dead))
    for found in (
        module._free_by_count(*arguments, 60),
        module._free_by_search(*arguments),
        module._free_by_order(*arguments),
    ):
        np.testing.assert_array_equal(array(found), expected)


@pytest.mark.parametrize("size", [60, None])
def test_fills_in_the_order_of_the_proposals_of_each_group(size):
    # Slots of positions 0 to 29 and of 30 to 59, and three rounds.
    positions, dead = tensors([3, 4, 5, 6, 30, 31, 32], [1, 0, 1, 1, 0, 1, 1])
    rounds = ops.convert_to_tensor(
        np.array(
            [
                [4, 9, 9, 31, 30, 40],
                [9, 11, 40, 41, 42, 43],
                [9, 12, 13, 44, 45, 46],
            ],
            "int32",
        )
    )
    found = module.rewire(
        positions,
        dead,
        Segments([4, 3]),
        Segments([3, 3]),
        lambda number: ops.take(rounds, ops.minimum(number, 2), axis=0),
        size,
    )
    # At first nothing fits in the first group, but 31 is free again.
    # Then 9 and 11 do, and only then 12.
    assert list(array(found)) == [9, 4, 11, 12, 30, 31, 40]


def draws(pool, dead, positions, times):
    """Where slots have gone, over many draws."""
    counts = np.zeros(pool.size, int)
    positions, dead_ = tensors(positions, dead)
    kept = array(positions)[~np.asarray(dead)]
    rewire = compiled(lambda time: pool.rewire(positions, dead_, 11, time))
    for time in range(times):
        new = array(rewire(ops.convert_to_tensor(time)))
        assert len(set(new)) == len(new)
        np.testing.assert_array_equal(new[~np.asarray(dead)], kept)
        counts[new[np.asarray(dead)]] += 1
    return counts


def masked(shape, count):
    return MaskedPool(members_of([(kernel(shape), count)]), True, 0)


def stored(shape, count):
    layer = SparseDense(shape[1], count / (shape[0] * shape[1]))
    layer.build((None, shape[0]))
    return StoragePool(layer.values, 0)


@pytest.mark.parametrize(
    "make, shape, count",
    [
        (masked, (15, 20), 60),
        (masked, (15, 20), 200),
        (masked, (7, 9), 20),
        (stored, (15, 20), 60),
        (stored, (15, 20), 149),
        (stored, (15, 20), 200),
    ],
)
def test_uniform_over_dormant_ones(make, shape, count):
    pool = make(shape, count)
    rng = np.random.default_rng(0)
    positions = np.sort(rng.permutation(pool.size)[:count])
    dead = np.arange(count) % 2 == 0
    counts = draws(pool, dead, positions, 400)
    free = np.ones(pool.size, bool)
    free[positions[~dead]] = False
    assert not counts[~free].any()
    expected = 400 * dead.sum() / free.sum()
    # Draws without replacement vary less than independent ones.
    variation = 1 - dead.sum() / free.sum()
    statistic = np.sum((counts[free] - expected) ** 2) / expected / variation
    freedom = free.sum() - 1
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)
    # Those that have just died come back as often as others.
    assert abs(counts[positions[dead]].mean() / expected - 1) < 0.1


def test_uniform_on_the_host():
    rng = np.random.default_rng(0)
    positions = np.sort(rng.permutation(200)[:80]).astype("int32")
    dead = np.arange(80) % 2 == 0
    counts = np.zeros(200, int)
    for _ in range(2000):
        new = rewire_on_host(positions, dead, 200, rng)
        assert len(set(new)) == 80
        np.testing.assert_array_equal(new[~dead], positions[~dead])
        counts[new[dead]] += 1
    free = np.ones(200, bool)
    free[positions[~dead]] = False
    assert not counts[~free].any()
    # Draws without replacement vary less than independent ones.
    spread = 1 - 40 / 160
    expected = np.full(160, 2000 * 40 / 160)
    distances = (counts[free] - expected) / np.sqrt(spread) + expected
    assert abs(chi_square(distances, expected)) < 4


def test_global_draws_by_connectivity_and_size():
    members = members_of(
        [(kernel((20, 20)), 40), (kernel((30, 20)), 120), (kernel((9, 9)), 5)]
    )
    pool = MaskedPool(members, False, 0)
    crowded = MaskedPool(members, False, 0)
    assert pool._crowded
    pool._crowded = False
    rng = np.random.default_rng(0)
    positions = np.sort(rng.permutation(pool.size)[:165])
    dead = np.arange(165) % 8 == 0
    free = np.ones(pool.size, bool)
    free[positions[~dead]] = False
    shares = np.repeat([0.1, 0.2, 5 / 81], [400, 600, 81])
    groups = np.repeat([0, 1, 2], [400, 600, 81])
    expected = np.bincount(groups, free * shares)
    expected = expected / expected.sum() * dead.sum() * 300
    for one in (pool, crowded):
        counts = np.bincount(groups, draws(one, dead, positions, 300))
        assert chi_square(counts, expected) < 5


def test_each_pool_draws_for_each_purpose_by_itself():
    seeds = set()
    for stream in range(3):
        pool = MaskedPool(members_of([(kernel((4, 5)), 3)]), True, stream)
        for purpose in range(2):
            for step in range(2):
                seed = pool.seed(11, purpose, step).next()
                seeds.add(tuple(array(seed)))
    assert len(seeds) == 3 * 2 * 2


def test_global_counts_replaced_connections_where_they_are():
    variables = [kernel((4, 5), "a"), kernel((3, 4), "b"), kernel((2, 5), "c")]
    optimizer = DeepR(keras.optimizers.SGD(0.1), 0.2, budget="global", seed=1)
    optimizer.build(variables)
    positions, dead = tensors([0, 19, 20, 31, 32, 33, 5, 41], [1] * 6 + [0, 1])
    optimizer._pools[0]._count(positions, dead)
    assert list(optimizer.rewired().values()) == [2, 2, 3]


def test_crowded_draws_fill_what_is_full():
    positions, dead = tensors(np.arange(12), [True, False] * 6)
    new = array(rewire_crowded(positions, dead, 12, None, StepSeed(1, 2)))
    assert sorted(new) == list(range(12))
    assert list(new[1::2]) == list(range(1, 12, 2))
