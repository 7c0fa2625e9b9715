import keras
import numpy as np
import pytest

from trainers.run.baselines import FixedConnections
from trainers.run.baselines import Shrinkage


def variable(values):
    return keras.Variable(np.array(values, "float32"), name="kernel")


def test_connections_stay_where_they_were():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(6, 5)) * (rng.random((6, 5)) < 0.4)
    kernel, bias = variable(start), variable(np.zeros(5))
    optimizer = FixedConnections(keras.optimizers.Adam(0.1))
    for _ in range(5):
        gradients = [rng.normal(size=v.shape) for v in (kernel, bias)]
        gradients = [np.float32(gradient) for gradient in gradients]
        optimizer.apply(gradients, [kernel, bias])
        np.testing.assert_array_equal(kernel.numpy() != 0, start != 0)
    assert (bias.numpy() != 0).all()
    assert (kernel.numpy() != np.float32(start))[start != 0].all()


def test_shrinkage_moves_to_zero_and_not_beyond():
    kernel, bias = variable([[1.0, -1.0, 0.05, 0.0]]), variable([1.0])
    optimizer = Shrinkage(keras.optimizers.SGD(0.5), l1=0.2)
    zeros = [np.zeros((1, 4), "float32"), np.zeros(1, "float32")]
    optimizer.apply(zeros, [kernel, bias])
    np.testing.assert_allclose(kernel.numpy(), [[0.9, -0.9, 0.0, 0.0]])
    assert bias.numpy() == [1.0]


@pytest.mark.parametrize(
    "optimizer",
    [
        Shrinkage(keras.optimizers.SGD(0.5), l1=0.2),
        FixedConnections(keras.optimizers.SGD(0.5)),
    ],
)
def test_config(optimizer):
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(optimizer)
    assert float(copy.learning_rate) == 0.5
    assert getattr(copy, "l1", None) == getattr(optimizer, "l1", None)
