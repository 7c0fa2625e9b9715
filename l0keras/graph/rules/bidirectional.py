import numpy as np

from l0keras.copying import Changed
from l0keras.graph.rules import recurrent
from l0keras.graph.rules.recurrent import Recurrent


class Bidirectional(Recurrent):
    """`Bidirectional` around layers that `Recurrent` knows.

    With `merge_mode="concat"` the two layers have channels of their own, but
    Keras wants the same number of both; otherwise unit c of both makes
    channel c.
    """

    def refuses(self, node):
        for layer in self._layers(node):
            reason = recurrent.refuses(layer)
            if reason:
                return reason
        first, second = self._layers(node)
        if first.name == second.name or first.units != second.units:
            return "its two layers have the same name or differ in units"
        return recurrent.refuses_call(node)

    def _layers(self, node):
        return node.layer.forward_layer, node.layer.backward_layer

    def _names(self, node):
        """The parameters of each layer, by their names there.

        By order: how their paths start depends on who built the layers.
        """
        names = list(node.params)
        count = len(self._layers(node)[0].weights)
        return [
            {name.split("/")[-1]: name for name in part}
            for part in (names[:count], names[count:])
        ]

    def _cells(self, node):
        return [
            recurrent.Cell(
                layer, {k: node.params[name] for k, name in part.items()}
            )
            for layer, part in zip(self._layers(node), self._names(node))
        ]

    def _split(self, node, mask):
        """The part of a mask over the output for each layer."""
        if node.layer.merge_mode != "concat":
            return mask, mask
        return np.split(mask, [self._layers(node)[0].units])

    def constants(self, node):
        first, second = (
            layer.zeros(node.input.constants) for layer in self._cells(node)
        )
        mode = node.layer.merge_mode
        if mode == "concat":
            zeros = np.concatenate([first, second])
        else:
            zeros = first | second if mode == "mul" else first & second
        return np.where(zeros, 0.0, np.nan)

    def makes(self, node, live):
        cells, constants = self._cells(node), node.constants()
        if node.layer.merge_mode == "concat":
            halves = [
                one.needs(half, constants)
                for one, half in zip(cells, self._split(node, live))
            ]
            counts = [half.sum() for half in halves]
            while counts[0] != counts[1]:
                small = int(counts[1] < counts[0])
                halves[small] = cells[small].one_more(halves[small], constants)
                counts[small] = halves[small].sum()
            return np.concatenate(halves)
        while True:
            more = live
            for one in cells:
                more = one.needs(more, constants)
            if np.array_equal(more, live):
                return live
            live = more

    def reads(self, node, made):
        masks = [np.ones(value.size, bool) for value in node.inputs]
        masks[0] = np.zeros(node.input.size, bool)
        for one, half in zip(self._cells(node), self._split(node, made)):
            masks[0] |= one.reads(half, node.constants())
        return masks

    def shrink(self, node):
        changes, params = {}, {}
        halves = self._split(node, node.made)
        for key, layer, one, half in zip(
            ("layer", "backward_layer"),
            self._layers(node),
            self._cells(node),
            halves,
        ):
            kept = np.flatnonzero(half)
            change, weights = one.cut(node.got(), kept, node.constants())
            changes[key] = Changed(layer, change)
            for name, array in weights.items():
                params[f"{layer.name}/{layer.cell.name}/{name}"] = array
        return changes, params

    def weights(self, node):
        outputs = np.arange(node.output.size)
        halves = self._split(node, outputs)
        arrays = []
        for one, half in zip(self._cells(node), halves):
            arrays.extend(one.weights(half))
        return arrays

    def output_weights(self, node):
        halves = self._split(node, np.arange(node.output.size))
        return {
            part[name]: channels
            for part, one, half in zip(
                self._names(node), self._cells(node), halves
            )
            for name, channels in one.output_weights(half).items()
        }

    def scale_input(self, node, scale):
        for part in self._names(node):
            name = part["kernel"]
            node.params[name] = node.params[name] * scale[:, None]
