import keras
import numpy as np
import pytest

import l0keras
from l0keras import models
from l0keras.cutting.groups_to_keep import kept_sizes
from l0keras.targets import Target
from l0keras.targets import size_of

PARAMS = Target("params", 1.0)


@pytest.fixture(scope="module")
def small_vgg():
    return models.vgg(((8, 1), (16, 1)), (8, 8, 1))


def stripped(model, groups, counts):
    """The network with the last groups of each layer at 0."""
    return kept_sizes(model, groups, counts, [PARAMS, Target("macs", 1.0)])


@pytest.mark.parametrize("share", [0.15, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("of", ["params", "macs", "units"])
def test_groups_are_as_many_as_fit(of, share, small_vgg):
    groups = l0keras.weight_groups(small_vgg)
    target = Target(of, share)
    limit = target.limit(size_of(small_vgg, target))
    counts = list(l0keras.groups_to_keep(small_vgg, target).values())
    [size] = kept_sizes(small_vgg, groups, counts, [target])
    assert size <= limit
    # One more group in all layers would be too much.
    more = [min(c + 1, g.size) for c, g in zip(counts, groups)]
    if more != counts:
        [size] = kept_sizes(small_vgg, groups, more, [target])
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
    counts = l0keras.groups_to_keep(small_vgg, targets, groups).values()
    params, macs = stripped(small_vgg, groups, counts)
    assert params <= 400 and macs <= 0.5 * l0keras.count_macs(small_vgg)


def test_the_model_stays_as_it_is(small_vgg):
    before = [v.numpy().tolist() for v in small_vgg.variables]
    l0keras.groups_to_keep(small_vgg, Target("macs", 0.5))
    assert [v.numpy().tolist() for v in small_vgg.variables] == before


def test_each_layer_has_its_own_size(small_vgg):
    target = Target("units", 0.3, each=True)
    assert list(l0keras.groups_to_keep(small_vgg, target).values()) == [2, 4]


def test_the_optimizer_keeps_as_many(small_vgg):
    keep = l0keras.groups_to_keep(small_vgg, Target("params", 0.4))
    model = models.vgg(((8, 1), (16, 1)), (8, 8, 1))
    groups = l0keras.weight_groups(model)
    optimizer = l0keras.optimizers.ProximalSGD(
        keras.optimizers.SGD(0.01),
        groups,
        {name: l0keras.regularizers.WGSEF(k) for name, k in keep.items()},
        keep_at=1,
        keep=keep,
    )
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 8, 8, 1)), rng.normal(size=(4, 10))
    model.fit(x, y, epochs=3, verbose=0)
    share = size_of(l0keras.strip(model), PARAMS) / size_of(model, PARAMS)
    assert 0.3 < share <= 0.4


def test_refuses_what_no_network_reaches(small_vgg):
    least = models.vgg(((1, 1), (1, 1)), (8, 8, 1)).count_params()
    with pytest.raises(
        ValueError, match=f"`target` must ask for at least {least} params"
    ):
        l0keras.groups_to_keep(small_vgg, Target("params", at_most=least - 1))
