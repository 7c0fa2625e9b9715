"""Magnitude pruning, to compare with."""

import keras

import l0keras
from trainers.run import objective


def prune(model, sparsity, config, data, epochs):
    """Trains a network with tfmot's magnitude pruning.

    It has its final sparsity, the same in each layer, from the middle of the
    training on.

    Args:
        model: a plain Keras model. It is not changed.
        sparsity: the share of the weights of kernels to be zero, in (0, 1).
        config: the `Config` whose batches, optimizer and seed to take.
        data: what `input_pipeline.load` returns.
        epochs: for how long.

    Returns:
        A plain Keras model, full of zeros.
    """
    name = {"adam": "Adam", "sgd": "SGD"}[config.optimizer]
    return l0keras.export.prune_low_magnitude(
        model,
        data.reshuffled_batches(config.batch_size, config.seed),
        sparsity=sparsity,
        epochs=epochs,
        optimizer=getattr(keras.optimizers, name)(config.learning_rate),
        loss=objective.loss(),
        validation_data=data.test_batches(),
        verbose=2,
    )
