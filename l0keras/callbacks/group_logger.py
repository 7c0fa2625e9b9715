import keras

from l0keras.optimizers import ProximalSGD
from l0keras.optimizers.optimizer_groups import optimizers_of


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
        for optimizer in optimizers_of(self.model.optimizer, ProximalSGD):
            for counts in optimizer.zero_groups():
                logs[f"{counts['name']}_kept"] = counts["kept"]
