import keras

from l0keras.optimizers import ProximalSGD


class GroupLogger(keras.callbacks.Callback):
    """Adds to each epoch's logs how many groups of weights are left.

    For each `WeightGroups` of a `ProximalSGD` or `HSPG` that is `name_kept`.
    Where an optimizer is neither, nor has one inside, there is nothing to
    add.

    Callbacks further down the list (TensorBoard, `Checkpoint`) and the
    history of `fit` get them as they get the metrics.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        for optimizer in _proximal(self.model.optimizer):
            for counts in optimizer.zero_groups():
                logs[f"{counts['name']}_kept"] = counts["kept"]


def _proximal(optimizer):
    """An optimizer, or what it is made of, as far as that is proximal."""
    if isinstance(optimizer, ProximalSGD):
        return [optimizer] if optimizer.built else []
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return _proximal(optimizer.inner_optimizer)
    return [
        found
        for inner in getattr(optimizer, "optimizers", ())
        for found in _proximal(inner)
    ]
