import pytest

from l0keras import models


def test_stages():
    model = models.vgg(((3, 1), (5, 2)), (12, 9, 2), classes=7)
    shapes = [layer.output.shape[1:] for layer in model.layers if layer.weights]
    assert shapes == [
        *[(12, 9, 3)] * 2,
        *[(6, 4, 5)] * 4,
        (7,),
    ]
    assert model.get_layer("block2_pool").output.shape == (None, 3, 2, 5)
    assert model.name == "vgg"


def test_the_default_is_vgg16():
    model, other = models.vgg(seed=1), models.vgg16(seed=1)
    assert model.count_params() == other.count_params()
    names = [layer.name for layer in model.layers]
    assert names == [layer.name for layer in other.layers]
    assert other.name == "vgg16"


def test_each_pool_needs_two_pixels():
    stages = ((2, 1),) * 3
    model = models.vgg(stages, (8, 9, 1))
    assert model.get_layer("block3_pool").output.shape == (None, 1, 1, 2)
    with pytest.raises(ValueError, match="at least 8 x 8 pixels.*=.7, 8, 1"):
        models.vgg(stages, (7, 8, 1))


@pytest.mark.parametrize(
    "stages, message",
    [
        ((), "`stages` must have at least one stage.*stages=.."),
        (((64, 2, 1),), "`stages` must have.*number of chan.*=..64, 2, 1"),
        (((64, 0),), "`stages` must be an integer of at least 1.*stages=0"),
        (((6.5, 1),), "`stages` must be an integer of at least 1.*=6.5"),
    ],
)
def test_wrong_stages_are_refused(stages, message):
    with pytest.raises(ValueError, match=message):
        models.vgg(stages)
