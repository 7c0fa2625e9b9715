import types

import pytest

from trainers.run.callbacks import EarlyStopping


def stopping(values, patience):
    checkpoint = types.SimpleNamespace(
        history=[{"val_accuracy": value} for value in values]
    )
    return EarlyStopping(patience, checkpoint)


@pytest.mark.parametrize(
    "values, patience, is_over",
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, False),
        ([0.6, 0.5], 1, True),
        ([0.6, 0.5], 2, False),
        # As good as the best is not better.
        ([0.6, 0.6, 0.6], 2, True),
        ([0.6, 0.5, 0.5, 0.7], 2, False),
    ],
)
def test_is_over(values, patience, is_over):
    callback = stopping(values, patience)
    assert callback.is_over == is_over
    callback.set_model(types.SimpleNamespace(stop_training=False))
    callback.on_epoch_end(0)
    assert callback.model.stop_training == is_over
