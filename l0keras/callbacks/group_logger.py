import keras

from l0keras.optimizers import ProximalSGD
from l0keras.optimizers.optimizer_groups import optimizers_of


class GroupLogger(keras.callbacks.Callback):
    """Adds the number of groups that are not 0 to the logs of an epoch.

    The entry is `name_kept` for each `WeightGroups` of that name. The
    optimizer must be a `ProximalSGD` or `HSPG` or contain one, as
    `OptimizerGroups` may; for other optimizers the logs stay the same.

    Later callbacks in the list (TensorBoard, `Checkpoint`) and the history of
    `fit` see these entries like metrics.

    Example:

    >>> model.fit(x, y, callbacks=[GroupLogger()])
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        for optimizer in optimizers_of(self.model.optimizer, ProximalSGD):
            for counts in optimizer.zero_groups():
                logs[f"{counts['name']}_kept"] = counts["kept"]
