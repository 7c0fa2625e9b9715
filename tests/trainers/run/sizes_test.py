import keras
import pytest

import l0keras
from l0keras import models
from l0keras.targets import Target
from trainers.run import sizes


@pytest.fixture(scope="module")
def small_vgg():
    return models.vgg(((8, 1), (16, 1)), (8, 8, 1))


def stripped(model, groups, counts):
    """The network with the last groups of each layer at 0."""
    return sizes._kept_sizes(
        model, groups, counts, [Target("params", 1.0), Target("macs", 1.0)]
    )


@pytest.mark.parametrize("share", [0.15, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("of", ["params", "macs", "units"])
def test_groups_are_as_many_as_fit(of, share, small_vgg):
    groups = l0keras.weight_groups(small_vgg)
    target = Target(of, share)
    [limit] = sizes.limits([target], small_vgg)
    counts = sizes.groups_to_keep(small_vgg, groups, [target])
    [size] = sizes._kept_sizes(small_vgg, groups, counts, [target])
    assert size <= limit
    # One more group in all layers would be too much.
    more = [min(c + 1, g.size) for c, g in zip(counts, groups)]
    if more != counts:
        [size] = sizes._kept_sizes(small_vgg, groups, more, [target])
        assert size > limit
    else:
        assert share == 1.0


def test_sizes_are_those_of_smaller_networks(small_vgg):
    groups = l0keras.weight_groups(small_vgg)
    smaller = models.vgg(((3, 1), (5, 1)), (8, 8, 1))
    counts = [{8: 3, 16: 5}[group.size] for group in groups]
    assert stripped(small_vgg, groups, counts) == [
        smaller.count_params(),
        l0keras.count_macs(smaller),
    ]


def test_several_targets_hold_together(small_vgg):
    groups = l0keras.weight_groups(small_vgg)
    targets = [Target("macs", 0.5), Target("params", at_most=400)]
    counts = sizes.groups_to_keep(small_vgg, groups, targets)
    params, macs = stripped(small_vgg, groups, counts)
    assert params <= 400 and macs <= 0.5 * l0keras.count_macs(small_vgg)


def test_the_model_stays_as_it_is(small_vgg):
    before = [v.numpy().tolist() for v in small_vgg.variables]
    groups = l0keras.weight_groups(small_vgg)
    sizes.groups_to_keep(small_vgg, groups, [Target("macs", 0.5)])
    assert [v.numpy().tolist() for v in small_vgg.variables] == before


def test_refuses_what_no_network_reaches(small_vgg):
    groups = l0keras.weight_groups(small_vgg)
    least = models.vgg(((1, 1), (1, 1)), (8, 8, 1)).count_params()
    with pytest.raises(
        ValueError, match=f"`target_params` must be at least {least}, "
    ):
        sizes.groups_to_keep(
            small_vgg, groups, [Target("params", at_most=least - 1)]
        )


@pytest.mark.parametrize("at_most", [230, 300, 1234, 4000, 10_000])
def test_connections_are_as_many_as_fit(at_most):
    kernels, others = [784 * 5, 50, 10], 20
    share = sizes.connectivity(kernels, others, at_most)
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


def test_the_optimizer_keeps_as_many():
    model = keras.Sequential(
        [keras.Input((9,)), keras.layers.Dense(7), keras.layers.Dense(3)]
    )
    share = sizes.connectivity([63, 21], 10, 40)
    l0keras.optimizers.init_sparse(model, share, seed=1)
    kept = sum(int((v.numpy() != 0).sum()) for v in model.variables[::2])
    assert 10 + kept == 40


def test_refuses_too_few_connections():
    # Half of a connection is rounded up, and three times as many with it.
    with pytest.raises(ValueError, match="`target_params` must be at least 23"):
        sizes.connectivity([100, 300], 20, 22)
