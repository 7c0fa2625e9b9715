import numpy as np

from l0keras.graph.rules import cell
from l0keras.graph.rules.rule import Rule


class Recurrent(Rule):
    """`SimpleRNN`, `LSTM` and `GRU`: a unit goes with all of its gates.

    A unit stays if it is read, or if one that stays reads its state. A mask
    only says which steps are left out, so nothing depends on it.
    """

    inputs = None
    with_arguments = True
    shrinks_with_input = True

    def _cell(self, node):
        return cell.Cell(node.layer, node.params)

    def refuses(self, node):
        return cell.refuses(node.layer) or cell.refuses_call(node)

    def channel_inputs(self, node):
        return [0]

    def output_axis(self, node):
        return node.output.rank - 1

    def sources(self, node):
        return [np.full(node.output.size, -1) for _ in node.inputs]

    def creates(self, node):
        return True

    def constants(self, node):
        zeros = self._cell(node).zeros(node.input.constants)
        return np.where(zeros, 0.0, np.nan)

    def makes(self, node, live):
        return self._cell(node).needs(live, node.constants())

    def reads(self, node, made):
        masks = [np.ones(value.size, bool) for value in node.inputs]
        masks[0] = self._cell(node).reads(made, node.constants())
        return masks

    def shrink(self, node):
        kept = np.flatnonzero(node.made)
        return self._cell(node).cut(node.got(), kept, node.constants())

    def weights(self, node):
        return self._cell(node).weights(np.arange(node.output.size))

    def output_weights(self, node):
        return self._cell(node).output_weights(np.arange(node.output.size))

    def takes_input_scale(self, node):
        return True

    def scale_input(self, node, scale):
        node.params["kernel"] = node.params["kernel"] * scale[:, None]
