import keras

from l0keras.callbacks.averaged_weights import averaged_weights
from l0keras.gates import HardConcreteGate


class GateLogger(keras.callbacks.Callback):
    """Adds to each epoch's logs what the gates of each layer are doing.

    For a gated layer `name` these are `name_open`, the number of gates that
    are not 0 at test time, and `name_expected`, the expected number of gates
    open in training, which is larger: see `hard_concrete`. Both are those of
    the averaged weights where the optimizer keeps averages.

    Callbacks further down the list (TensorBoard, `Checkpoint`) and the
    history of `fit` get them as they get the metrics.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        with averaged_weights(self.model):
            for name, gate in named_gates(self.model).items():
                logs[f"{name}_open"] = gate.count_open()
                logs[f"{name}_expected"] = float(gate.prob_open().sum())


def named_gates(model):
    """The gates of a model by the name of the layer each belongs to.

    Args:
        model: a built model.

    Returns:
        A dict from layer name to `HardConcreteGate`, in the order of the
        model's layers.
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
    """A layer and all within it; Keras's own walk turns nested models round."""
    yield layer
    for inner in layer._layers:
        yield from _in_order(inner)
