import keras

from l0keras.callbacks.averaged_weights import averaged_weights
from l0keras.gates import HardConcreteGate


class GateLogger(keras.callbacks.Callback):
    """Adds the numbers of open gates to the logs of an epoch.

    For a gated layer `name`, `name_open` is the number of gates that are not
    0 at test time, and `name_expected` is the expected number of open gates
    in training, which is larger: see `hard_concrete`. If the optimizer keeps
    averages of weights, both are counted with the averaged weights.

    Later callbacks in the list (TensorBoard, `Checkpoint`) and the history of
    `fit` see these entries like metrics.

    Example:

    >>> model.fit(x, y, callbacks=[GateLogger()])
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        with averaged_weights(self.model):
            for name, gate in named_gates(self.model).items():
                logs[f"{name}_open"] = gate.count_open()
                logs[f"{name}_expected"] = float(gate.prob_open().sum())


def named_gates(model):
    """The gates of a model, by the name of the gated layer.

    Args:
        model: a built model.

    Returns:
        A dictionary from the name of a layer to its `HardConcreteGate`, in
        the order of the model's layers. A gate that is a layer of its own is
        found under its own name.
    """
    gates = {}
    for layer in _in_order(model):
        gate = getattr(layer, "gate", None)
        if isinstance(gate, HardConcreteGate):
            gates[layer.name] = gate
        elif isinstance(layer, HardConcreteGate):
            if not any(layer is known for known in gates.values()):
                gates[layer.name] = layer
    return gates


def _in_order(layer):
    """A layer and all layers in it, in the order of the model.

    The walk of Keras itself reverses the order in nested models.
    """
    yield layer
    for inner in layer._layers:
        yield from _in_order(inner)
