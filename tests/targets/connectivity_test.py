import keras
import pytest

import l0keras
from l0keras.optimizers import init_sparse
from l0keras.targets import Target
from l0keras.targets import connectivity_for


def network():
    return keras.Sequential(
        [keras.Input((9,)), keras.layers.Dense(7), keras.layers.Dense(3)]
    )


@pytest.mark.parametrize("at_most", [23, 40, 77, 93, 94, 200])
def test_connections_are_as_many_as_fit(at_most):
    kernels, others = [63, 21], 10
    model = network()
    share = connectivity_for(model, Target("params", at_most=at_most))
    counts = [round(share * size) for size in kernels]
    assert min(counts) >= 1
    assert others + sum(counts) <= at_most
    if at_most < others + sum(kernels):
        # The next share at which any kernel has one more.
        following = min((c + 0.5) / k for c, k in zip(counts, kernels))
        more = sum(round(following * (1 + 1e-9) * k) for k in kernels)
        assert others + more > at_most
    else:
        assert share == 1.0
    init_sparse(model, share, seed=1)
    kept = sum(int((v.numpy() != 0).sum()) for v in model.variables[::2])
    assert kept == sum(counts)


def test_shares_are_of_all_weights():
    target = Target("params", 0.5)
    share = connectivity_for(network(), target, include="dense.*kernel")
    assert 10 + round(63 * share) + round(21 * share) == 47


@pytest.mark.parametrize(
    "target, message",
    [
        # Half of a connection is rounded up, and three times as many with it.
        (Target("params", at_most=11), "must ask for at least 13 params"),
        (Target("macs", 0.5), "must be a Target of params of the whole"),
        (Target("params", 0.5, where="dense"), "of the whole model"),
    ],
)
def test_bad_targets(target, message):
    with pytest.raises(ValueError, match=message):
        connectivity_for(network(), target)


def test_a_model_of_sparse_storage_alone():
    model = keras.Sequential(
        [keras.Input((9,)), l0keras.layers.SparseDense(7, 0.5)]
    )
    with pytest.raises(ValueError, match="`model` must have a sparse var"):
        connectivity_for(model, Target("params", 0.5))
