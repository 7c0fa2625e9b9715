import types

import keras
import numpy as np

from l0keras.cli.comparison import Comparison
from l0keras.cli.data.task import Task
from l0keras.targets import Target


def embedding(units):
    layer = keras.layers.Embedding(4, units)
    model = keras.Sequential(
        [keras.Input((1,), dtype="int32"), layer, keras.layers.Flatten()]
    )
    layer.set_weights([np.eye(4, units)])
    return model


def data(labels, classes=True):
    x = np.arange(4)[:, None]
    return types.SimpleNamespace(
        train=[(x, labels)],
        validation=[(x, labels)],
        num_validation=len(x),
        classes=classes,
        task=Task((1,), "int32", (4,), ""),
    )


def test_a_table_and_what_was_asked_for():
    comparison = Comparison(embedding(4), None, data(np.arange(4)))
    assert comparison.line == (
        "Dense model: accuracy 100.00 %, 16 parameters, 0 MACs"
    )
    targets = [Target("params", 0.75), Target("params", at_most=11)]
    comparison.compare(embedding(3), None, targets)
    assert str(comparison).splitlines()[3:] == [
        "accuracy    100.00 %  75.00 %",
        "parameters        16       12  75.0 %",
        "MACs               0        0",
        "-------------------------------------",
        "Asked for at most 12 parameters (75 %), reached 12.",
        "Asked for at most 11 parameters, reached 12. That is more than asked "
        "for.",
        "Measured on 4 examples.",
    ]
    numbers = comparison.to_dict()
    assert numbers["dense"]["params"] == 16 and numbers["small"]["macs"] == 0
    assert numbers["small"]["score"] == {"name": "accuracy", "value": 0.75}
    assert numbers["asked"][0] == {
        "of": "params",
        "at_most": 12.0,
        "dense": 16,
        "reached": 12,
    }


def test_values():
    comparison = Comparison(embedding(4), None, data(np.eye(4) + 0.5, False))
    assert "mean squared error 0.25" in comparison.line
