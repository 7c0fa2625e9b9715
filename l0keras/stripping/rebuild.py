import keras
import numpy as np
from keras import ops

from l0keras.graph.builder import Builder
from l0keras.graph.graph import weights_by_name
from l0keras.graph.rules import BARRIER


def rebuild(graph):
    """Builds the model that a plan describes, out of Keras's own layers.

    Args:
        graph: a `Graph` from `plan`.

    Returns:
        A functional `keras.Model`, not compiled.
    """
    return _Rebuilder(graph).model()


def select(builder, node, position, tensor):
    """The channels that a node takes, of those that a tensor still has.

    Args:
        builder: the `Builder` of the new model, which names the selection.
        node: a node whose channels have been chosen, see `choose_kept`.
        position: the position of the tensor among the inputs of the node.
        tensor: a `KerasTensor` of the new model.

    Returns:
        A `KerasTensor`: the same where the node takes all of them.
    """
    if node.takes[position] is None:
        return tensor
    value = node.inputs[position]
    indices = np.searchsorted(value.kept, node.takes[position]).tolist()
    selected = ops.take(tensor, indices, axis=value.axis)
    return builder.name(selected, f"{node.name}_inputs")


class _Rebuilder(Builder):
    def given(self, node, position):
        if not node.reads_from(position):
            return None
        tensor = super().given(node, position)
        return select(self, node, position, tensor)

    def clone(self, node):
        if node.rule is BARRIER:
            return super().clone(node)
        changes, weights = node.rule.shrink(node)
        # The copies of the weights are not needed any more.
        node.operation.params = {}
        if not isinstance(node.layer, keras.Layer):
            config = {**node.layer.get_config(), "name": node.name, **changes}
            return type(node.layer).from_config(config), weights
        if not changes and self._fits(node, weights):
            return self.copied(node), weights
        return self.copier.changed(node.layer, node.name, changes), weights

    def _fits(self, node, weights):
        """Whether a layer takes its new inputs and weights as it is."""
        own = weights_by_name(node.layer)
        return set(own) == set(weights) and all(
            tuple(own[name].shape) == np.shape(array)
            for name, array in weights.items()
        )

    def call(self, node, layer, args, kwargs):
        return node.rule.call(node, layer, args, kwargs)
