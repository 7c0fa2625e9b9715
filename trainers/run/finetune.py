"""What tensorflow-model-optimization can do to a stripped model."""

import dataclasses

import keras

import l0keras
from l0keras import export
from trainers.run import metrics


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """Training after strip, so that weights may be stored in fewer bits.

    Args:
        cluster_epochs: epochs of training with weights that share values; 0
            leaves them free.
        clusters: how many values the weights of a layer share.
        quantize_epochs: epochs of training with the rounding of int8 files; 0
            leaves it out. What clustering shared stays shared.
        preserve_sparsity: whether single weights that are zero stay zero.
        learning_rate: of Adam.
        batch_size: examples in a step.

    Raises:
        ValueError: an argument out of its range.
    """

    cluster_epochs: int = 0
    clusters: int = 16
    quantize_epochs: int = 0
    preserve_sparsity: bool = False
    learning_rate: float = 1e-4
    batch_size: int = 100

    def __post_init__(self):
        for name, least in (
            ("cluster_epochs", 0),
            ("clusters", 2),
            ("quantize_epochs", 0),
            ("batch_size", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Argument `{name}` must be at least {least}. "
                    f"Received: {name}={getattr(self, name)}"
                )
        if not self.learning_rate > 0:
            raise ValueError(
                "Argument `learning_rate` must be above 0. "
                f"Received: learning_rate={self.learning_rate}"
            )

    @property
    def trains(self):
        """Whether there is anything to do."""
        return bool(self.cluster_epochs or self.quantize_epochs)


def fine_tune(model, data, settings, seed=0):
    """Trains a model on with tensorflow-model-optimization.

    Args:
        model: a plain Keras 3 model that gives logits. It is not changed.
        data: what `input_pipeline.load` returns.
        settings: a `FineTuning`.
        seed: fixes the order of examples.

    Returns:
        A Keras 3 model, or where `quantize_epochs` is not 0 a `tf_keras` one
        for `export_tflite(..., "int8")`.
    """
    loss = metrics.loss()
    if settings.cluster_epochs:
        model = export.cluster(
            model,
            data.reshuffled_batches(settings.batch_size, seed),
            number_of_clusters=settings.clusters,
            epochs=settings.cluster_epochs,
            optimizer=keras.optimizers.Adam(settings.learning_rate),
            loss=loss,
            preserve_sparsity=settings.preserve_sparsity,
            verbose=2,
        )
    if settings.quantize_epochs:
        model = export.quantize_aware(
            model,
            data.reshuffled_batches(settings.batch_size, seed),
            epochs=settings.quantize_epochs,
            optimizer=keras.optimizers.Adam(settings.learning_rate),
            loss=loss,
            preserve_sparsity=settings.preserve_sparsity,
            preserve_clusters=bool(settings.cluster_epochs),
            verbose=2,
        )
    return model


def prune(model, sparsity, config, data, epochs, schedule="polynomial"):
    """Trains a network with tfmot's magnitude pruning.

    Args:
        model: a plain Keras model. It is not changed.
        sparsity: the share of the weights of kernels to be zero, in (0, 1),
            the same in each layer, or a dictionary of shares by the names of
            layers.
        config: the `Config` whose batches, optimizer and seed to take.
        data: what `input_pipeline.load` returns.
        epochs: for how long.
        schedule: `"polynomial"` for the final sparsity from the middle of the
            training on, `"constant"` for the whole of it.

    Returns:
        A plain Keras model, full of zeros.
    """
    name = {"adam": "Adam", "sgd": "SGD"}[config.optimizer]
    return l0keras.export.prune_low_magnitude(
        model,
        data.reshuffled_batches(config.batch_size, config.seed),
        sparsity=sparsity,
        epochs=epochs,
        schedule=schedule,
        optimizer=getattr(keras.optimizers, name)(config.learning_rate),
        loss=metrics.loss(),
        validation_data=data.test_batches(),
        verbose=2,
    )
