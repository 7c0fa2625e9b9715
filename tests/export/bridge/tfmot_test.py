import os
import sys

import keras
import numpy as np
import pytest
from keras import layers

from l0keras.export import cluster
from l0keras.export import prune_low_magnitude
from l0keras.export import quantize_aware
from l0keras.export import to_tf_keras
from l0keras.export.bridge.tfmot import LEGACY
from l0keras.export.bridge.tfmot import import_tf_keras
from l0keras.export.bridge.tfmot import import_tfmot

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="tf_keras runs on TensorFlow",
)


def small():
    return keras.Sequential([keras.Input((3,)), layers.Dense(2)])


def test_keras_3_trains_afterwards():
    import_tfmot()
    to_tf_keras(small())
    model = small()
    model.compile("adam", "mse")
    before = model.get_weights()[0]
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert np.any(model.get_weights()[0] != before)


@pytest.mark.parametrize("value", [None, "0", "1"])
@pytest.mark.parametrize("missing", [True, False])
def test_the_variable_is_as_it_was(value, missing, monkeypatch):
    monkeypatch.delenv(LEGACY, raising=False)
    if value is not None:
        monkeypatch.setenv(LEGACY, value)
    if missing:
        monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
        with pytest.raises(ImportError):
            import_tfmot()
    else:
        import_tfmot()
    assert os.environ.get(LEGACY) == value


def test_without_tf_keras_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ImportError, match=r"pip install 'l0keras\[tfmot\]'"):
        import_tf_keras()
    with pytest.raises(ImportError, match=r"pip install 'l0keras\[tfmot\]'"):
        to_tf_keras(small())


@pytest.mark.parametrize(
    "function, arguments",
    [
        (quantize_aware, {}),
        (cluster, {}),
        (prune_low_magnitude, {"sparsity": 0.5}),
    ],
)
def test_without_tfmot_the_error_names_the_extra(
    function, arguments, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    data = (np.ones((4, 3)), np.ones((4, 2)))
    with pytest.raises(ImportError, match=r"pip install 'l0keras\[tfmot\]'"):
        function(small(), data, loss="mse", **arguments)
