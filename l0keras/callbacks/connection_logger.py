import keras

from l0keras.optimizers import DeepR
from l0keras.optimizers import SoftDeepR
from l0keras.optimizers.optimizer_groups import optimizers_of


class ConnectionLogger(keras.callbacks.Callback):
    """Adds the active and new connections of DEEP R to the logs of an epoch.

    For each sparse variable, `path_active` is the share of its connections
    that are active, and `path_rewired` is the number of connections that
    became active in the epoch. The optimizer must be a `DeepR` or `SoftDeepR`
    or contain one, as `OptimizerGroups` may; for other optimizers the logs
    stay the same.

    Later callbacks in the list (TensorBoard, `Checkpoint`) and the history of
    `fit` see these entries like metrics.

    Example:

    >>> model.compile(DeepR(keras.optimizers.SGD(0.05)), loss="mse")
    >>> model.fit(x, y, callbacks=[ConnectionLogger()])
    """

    def on_train_begin(self, logs=None):
        self._before = _rewired(self.model.optimizer)

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        after = _rewired(self.model.optimizer)
        for rewirer in _rewirers(self.model.optimizer):
            for path, share in rewirer.active_shares().items():
                logs[f"{path}_active"] = share
                opened = after[path] - self._before.get(path, 0)
                logs[f"{path}_rewired"] = opened
        self._before = after


def _rewired(optimizer):
    counts = {}
    for rewirer in _rewirers(optimizer):
        counts |= rewirer.rewired()
    return counts


def _rewirers(optimizer):
    return optimizers_of(optimizer, (DeepR, SoftDeepR))
