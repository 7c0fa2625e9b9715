import keras

from l0keras.optimizers import DeepR
from l0keras.optimizers import SoftDeepR
from l0keras.optimizers.optimizer_groups import optimizers_of


class ConnectionLogger(keras.callbacks.Callback):
    """Adds to each epoch's logs what DEEP R does to the connections.

    For a sparse variable these are `path_active`, the share of its
    connections that are active, and `path_rewired`, how many were opened in
    this epoch. Where an optimizer is not `DeepR` or `SoftDeepR`, nor has one
    inside, there is nothing to add.

    Callbacks further down the list (TensorBoard, `Checkpoint`) and the
    history of `fit` get them as they get the metrics.
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
