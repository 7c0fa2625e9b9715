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
        if first.name == second.name or first.cell.units != second.cell.units:
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
        return np.split(mask, [self._layers(node)[0].cell.units])

    def _states(self, node):
        positions = recurrent.initial_states(node)
        halves = self._split(node, np.arange(node.output.size))
        # Those of the first layer come first.
        each = [half for half in halves for _ in range(len(positions) // 2)]
        return list(zip(positions, each))

    def parts(self, node):
        halves = self._split(node, np.arange(node.output.size))
        merged = 2 if node.layer.merge_mode is None else 1
        states = (len(node.outputs) - merged) // 2
        return [
            *[np.arange(node.output.size)] * merged,
            *(half for half in halves for _ in range(states)),
        ]

    def _zeros(self, node):
        """The units of each layer that are 0, before they are merged."""
        return [
            cell.zeros(node.input.constants, half)
            for cell, half in zip(
                self._cells(node), self._split(node, self._starts(node))
            )
        ]

    def constants(self, node):
        first, second = self._zeros(node)
        mode = node.layer.merge_mode
        if mode == "concat":
            zeros = np.concatenate([first, second])
        elif mode == "mul" and len(node.outputs) == 1:
            zeros = first | second
        else:
            zeros = first & second
        return np.where(zeros, 0.0, np.nan)

    def makes(self, node, live):
        cells, constants = self._cells(node), node.constants()
        starts = self._split(node, self._starts(node))
        if node.layer.merge_mode == "concat":
            halves = [
                cell.needs(half, constants, start)
                for cell, half, start in zip(
                    cells, self._split(node, live), starts
                )
            ]
            counts = [half.sum() for half in halves]
            while counts[0] != counts[1]:
                small = int(counts[1] < counts[0])
                halves[small] = cells[small].one_more(
                    halves[small], constants, starts[small]
                )
                counts[small] = halves[small].sum()
            return np.concatenate(halves)
        while True:
            more = live
            for cell, start in zip(cells, starts):
                more = cell.needs(more, constants, start)
            if np.array_equal(more, live):
                return live
            live = more

    def reads(self, node, made):
        masks = [np.ones(value.size, bool) for value in node.inputs]
        masks[0] = np.zeros(node.input.size, bool)
        for one, half in zip(self._cells(node), self._split(node, made)):
            masks[0] |= one.reads(half, node.constants())
        for position, channels in self._states(node):
            masks[position] = made[channels]
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

    def takes_joined_inputs(self, node):
        return False

    def scale_input(self, node, scale):
        for part in self._names(node):
            name = part["kernel"]
            node.params[name] = node.params[name] * scale[:, None]
