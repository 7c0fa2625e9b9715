import numpy as np
import pytest

from l0keras.export import cluster
from tests.export.bridge.tfmot_checks import assert_untouched
from tests.export.bridge.tfmot_checks import data
from tests.export.bridge.tfmot_checks import kernels
from tests.export.bridge.tfmot_checks import loss
from tests.export.bridge.tfmot_checks import network
from tests.export.bridge.tfmot_checks import tensorflow_only

pytestmark = tensorflow_only


def test_kernels_have_few_values():
    model = network()
    clustered = cluster(
        model, data(), number_of_clusters=5, loss=loss(), verbose=0
    )
    for name, kernel in kernels(clustered).items():
        assert 2 <= len(np.unique(kernel)) <= 5
        # The centroids are where the weights were.
        moved = np.abs(kernel - kernels(model)[name])
        assert np.mean(moved) < 0.5 * np.std(kernels(model)[name])
    assert clustered.get_config() == model.get_config()


def test_zeros_are_kept():
    model = network()
    zeros = {}
    for name, kernel in kernels(model).items():
        zeros[name] = np.abs(kernel) < 0.2
        model.get_layer(name).kernel.assign(np.where(zeros[name], 0, kernel))
    clustered = cluster(
        model,
        data(),
        number_of_clusters=6,
        preserve_sparsity=True,
        loss=loss(),
        verbose=0,
    )
    for name, kernel in kernels(clustered).items():
        assert np.all(kernel[zeros[name]] == 0)
        assert 2 <= len(np.unique(kernel)) <= 6


def test_the_model_is_left_alone():
    assert_untouched(
        lambda model: cluster(model, data(), number_of_clusters=4, verbose=0)
    )


@pytest.mark.parametrize("number", [1, 2.5, "many"])
def test_the_number_is_checked(number):
    with pytest.raises(ValueError, match="Argument `number_of_clusters`"):
        cluster(network(), data(), number_of_clusters=number, loss=loss())
