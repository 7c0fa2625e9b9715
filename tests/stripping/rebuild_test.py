import keras
import numpy as np
from keras.src.applications.convnext import LayerScale

import l0keras
from tests import networks


def test_weights_without_a_name_arrive():
    """Keras names them "variable_3", with another number in each copy."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((5,))
    x = inputs
    for _ in range(2):
        x = keras.layers.Dense(6, activation="gelu")(x)
        x = LayerScale(1e-6, 6)(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    networks.randomize(model, rng)
    array = networks.random_inputs(model, rng)
    expected = networks.outputs_of(model, array)
    for copy in (l0keras.strip(model), l0keras.sparsify(model)):
        np.testing.assert_allclose(
            networks.outputs_of(copy, array), expected, atol=1e-6
        )
