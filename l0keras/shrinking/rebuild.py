import keras
import numpy as np
from keras import ops

from l0keras.copying import Changed
from l0keras.gates import HardConcreteGate
from l0keras.graph.bake_recurrent import layers_inside
from l0keras.graph.builder import Builder
from l0keras.graph.opening.lifting import lifted_variables
from l0keras.graph.rules import BARRIER
from l0keras.shrinking.plan import all_weights
from l0keras.shrinking.stand_ins import gated_parts
from l0keras.shrinking.stand_ins import generator_of
from l0keras.stripping.rebuild import select


class Shrinker(Builder):
    """Builds the smaller gated model that a plan describes.

    Args:
        graph, parts: what `plan` returns.

    Attributes:
        origins: after `model`, for each variable of it by its id the variable
            of the original that it is a part of, and the positions in there,
            flat, as an integer array of its own shape; `None` for all.
    """

    def __init__(self, graph, parts):
        super().__init__(graph)
        self.parts = parts
        self.origins = {}
        # Outputs of generators, by the ids of their calls.
        self._generated = {}
        # Layers by the id of the new one: the old one, the positions that
        # are left by the ids of old variables.
        self._sources = {}

    def model(self):
        model = super().model()
        lifted = {
            id(variable): original
            for layer in self.graph.model._flatten_layers()
            for variable, original in lifted_variables(layer)
        }
        for key, (variable, index) in self.origins.items():
            original = lifted.get(id(variable), variable)
            if index is None and original.shape != variable.shape:
                index = np.arange(np.prod(variable.shape)).reshape(
                    tuple(variable.shape)
                )
            self.origins[key] = original, index
        for variable in model.variables:
            if id(variable) not in self.origins:
                raise NotImplementedError(
                    f"Variable '{variable.path}' of the smaller model is no "
                    "part of one of the model that it is made from"
                )
            # Optimizers and checkpoints know variables by their paths.
            original = self.origins[id(variable)][0]
            variable._path, variable._name = original.path, original.name
        return model

    def given(self, node, position):
        if node.rule is not BARRIER and not node.reads_from(position):
            return None
        tensor = super().given(node, position)
        if node.rule is BARRIER:
            return tensor
        return select(self, node, position, tensor)

    # === Layers ===

    def clone(self, node):
        owner = node.operation.owner
        part = self.parts.get(id(node.operation))
        if not isinstance(owner, keras.Layer):
            if part is None:
                return super().clone(node)
            config = {**owner.get_config(), "name": node.name, **part.changes}
            return type(owner).from_config(config), None
        layer = self._layer(node, owner, part)
        indices = {}
        if part is not None:
            weights = all_weights(node.operation)
            indices = {id(weights[i]): x for i, x in part.indices.items()}
        self._sources[id(layer)] = owner, indices
        return layer, {}

    def _layer(self, node, owner, part):
        changed = part and part.changes and not owner.weights
        if part is None or not (changed or _is_smaller(part)):
            return self.copier.layer(owner, node.name)
        if isinstance(owner, HardConcreteGate):
            changes = {"kept": _kept(owner, part.kept[0])}
            return self.copier.changed(owner, node.name, changes)
        changes = dict(part.changes)
        inside = dict(zip(layers_inside(node.layer), layers_inside(owner)))
        further = [
            {
                "kept": _kept(one.gate, masks),
                "group_size": one.gate.group_size,
            }
            if one.gate is not None
            else {}
            for one, masks in zip(gated_parts(owner), part.kept)
        ]
        more = dict(zip(gated_parts(owner), further))
        for key, value in changes.items():
            if isinstance(value, Changed):
                layer = inside.get(value.layer, value.layer)
                own = {**value.changes, **more.get(layer, {})}
                changes[key] = Changed(layer, own)
        return self.copier.changed(
            owner, node.name, {**changes, **more.get(owner, {})}
        )

    def fill(self, layer, source, weights):
        if id(layer) not in self._sources:
            return
        owner, indices = self._sources[id(layer)]
        self._take_over(layer, owner, indices)
        if hasattr(layer, "finalize_state"):
            # Such as `Normalization`, which computes with copies.
            layer.finalize_state()

    def _take_over(self, layer, owner, indices):
        """Gives a new layer its parts of the variables of another."""
        for new, old in zip(layer.variables, owner.variables, strict=True):
            index = indices.get(id(old))
            shape = tuple(old.shape) if index is None else index.shape
            if tuple(new.shape) != shape or new.name != old.name:
                raise NotImplementedError(
                    f"Layer '{owner.name}' ({type(owner).__name__}) cannot be "
                    f"shrunk: its variable '{old.path}' became "
                    f"'{new.path}' of shape {tuple(new.shape)}, where "
                    f"{shape} is left of it"
                )
            self.origins[id(new)] = old, index
            new.assign(part_of(old, index))

    # === Calls ===

    def call(self, node, layer, args, kwargs):
        owner = node.operation.owner
        if isinstance(owner, HardConcreteGate):
            made = generator_of(node.call)
            if made is not None and node.rule is not BARRIER:
                call, index = made
                kwargs = {**kwargs, "log_alpha": self._log_alphas(call)[index]}
            return layer(*args, **kwargs)
        if node.rule is BARRIER:
            return super().call(node, layer, args, kwargs)
        if kwargs.get("gates") is not None and gated_parts(owner):
            (masks,) = self.parts[id(node.operation)].kept
            if not np.all(masks[0]):
                index = np.flatnonzero(masks[0]).tolist()
                left = ops.take(kwargs["gates"], index, axis=1)
                left = self.name(left, f"{node.name}_gates")
                kwargs = {**kwargs, "gates": left}
        return node.rule.call(node, layer, args, kwargs)

    def _log_alphas(self, call):
        """What the copy of a generator gives out; it is called once."""
        if id(call) not in self._generated:
            generator = call.operation
            new = self.own(self.copier.layer(generator))
            known = {
                id(value.tensor): self.tensors[id(value)]
                for value in keras.tree.flatten(self.graph.inputs)
            }
            # All that counts is that there is an input.
            otherwise = next(iter(known.values()))
            anchor = known.get(id(call.input_tensors[0]), otherwise)
            self._generated[id(call)] = new(anchor)
            self._take_over(new, generator, {})
            self._called.add(new.name)
        return self._generated[id(call)]


def part_of(variable, index):
    """The numbers of a variable at positions of it, a numpy array."""
    array = ops.convert_to_numpy(variable)
    # JAX gives the memory of variables away in training.
    return array.copy() if index is None else array.reshape(-1)[index]


def cuts_anything(graph, parts):
    """Whether a plan makes anything smaller."""
    alive = [node for node in graph.nodes if node.alive]
    if len({id(node.operation) for node in alive}) < len(graph.before):
        return True
    found = (parts.get(id(node.operation)) for node in alive)
    return any(part is not None and _is_smaller(part) for part in found)


def _is_smaller(part):
    masks = [mask for kept in part.kept for mask in kept or ()]
    return bool(part.indices) or not all(map(np.all, masks))


def _kept(gate, masks):
    """The argument `kept` for what is left of the gates that are left."""
    if masks is None or gate is None:
        return None
    if gate.kept is None:
        return [mask.tolist() for mask in masks]
    kept = []
    for before, mask in zip(gate.kept, masks):
        now = np.array(before)
        now[now] = mask
        kept.append(now.tolist())
    return kept
