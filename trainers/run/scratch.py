"""The network that is left, trained from new weights, to compare with."""

import keras

from l0keras import callbacks
from trainers.run import metrics
from trainers.run.callbacks import Progress
from trainers.run.optimizers import make_optimizer


def train_from_scratch(model, config, data, path):
    """Trains a network of the same shape for as long, from new weights.

    Epochs, batches, optimizer and seed are those of
    `config.without_sparsity()`, so the small network has all epochs that the
    gated and the cut one had together. Its weights begin as the layers'
    initializers say.

    Args:
        model: a plain Keras model that gives logits. It is not changed.
        config: the `Config` of the training that made it.
        data: what `input_pipeline.load` returns.
        path: a file for checkpoints that ends in `.npz`; the same call goes
            on from it.

    Returns:
        A plain Keras model with averaged weights.
    """
    config = config.without_sparsity()
    steps = data.steps_per_epoch(config.batch_size)
    small = keras.models.clone_model(model)
    small.compile(
        make_optimizer(config, steps, small),
        loss=metrics.loss(),
        metrics=[metrics.Accuracy()],
        jit_compile=False,
    )
    checkpoint = callbacks.Checkpoint(path)
    first = checkpoint.restore(small)
    if first < config.epochs:
        small.fit(
            data.train_batches(
                config.batch_size, config.seed, config.epochs, first
            ),
            initial_epoch=first,
            epochs=config.epochs,
            steps_per_epoch=steps,
            callbacks=[
                callbacks.RaiseOnNaN(),
                checkpoint,
                Progress(steps),
            ],
            # The batches are in an order of their own.
            shuffle=False,
            verbose=0,
        )
        # `fit` ends with the averaged weights, and without the others.
        checkpoint.restore(small)
    result = keras.models.clone_model(model)
    with callbacks.averaged_weights(small):
        result.set_weights(small.get_weights())
    return result
