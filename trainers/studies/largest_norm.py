"""The baseline of pruning: the units with the largest weights stay."""

import keras
import numpy as np

import l0keras

# Beyond what closes a gate a little.
_OPEN = 10.0


@keras.saving.register_keras_serializable("l0keras.studies")
class Ranked(l0keras.GateBudget):
    """Gates that are all open, and ranked by given scores."""

    ranks = None

    def log_alphas(self):
        if self.ranks is None:
            return super().log_alphas()
        return [keras.ops.convert_to_tensor(own) for own in self.ranks]


def cut(model, target):
    """Cuts a model to a size without any training.

    Units are ranked by the L2 norm of the weights that make them, in the
    features of flat inputs of those that read them, as a multiple of the
    root mean square of their layer's.

    Source: the criterion of Li et al., ICLR 2017 (arXiv:1608.08710), with
    the L2 norm, ranked over all layers at once as by Molchanov et al., ICLR
    2017 (arXiv:1611.06440, section 2.3), who divide by the norm of the layer.

    Args:
        model: a Keras model that has been trained.
        target: an `l0keras.targets.Target`.

    Returns:
        A plain model, as of `l0keras.cut`.
    """
    gated = l0keras.sparsify(
        model, target=target, steps=1, controller=Ranked, check=False
    )
    norms = _norms(model)
    budget = gated.get_layer("gate_budget")
    gates = sorted(l0keras.gates_of(gated), key=lambda g: g.generated_by()[1])
    scores = []
    for gate in gates:
        own = norms[gate.name.removesuffix("_gate")]
        scores.append(own / np.sqrt(np.mean(np.square(own))))
    largest = max(map(np.max, scores))
    budget.ranks = [(_OPEN + own / largest).astype("float32") for own in scores]
    return l0keras.cut(gated, check=False)


def _norms(model):
    """The norms of all units, by the names of what makes them."""
    norms = {}
    for group in l0keras.channel_groups(model):
        squares = np.zeros(group.size)
        for variable, channels in group.parts:
            weights = np.square(keras.ops.convert_to_numpy(variable))
            channels = np.broadcast_to(channels, weights.shape)
            inside = channels >= 0
            np.add.at(squares, channels[inside], weights[inside])
        norms[group.name] = np.sqrt(squares)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            rows = np.square(keras.ops.convert_to_numpy(layer.kernel))
            source = layer.input._keras_history.operation.name
            norms.setdefault(source, np.sqrt(rows.sum(axis=1)))
    return norms
