import keras
import numpy as np
from keras import ops

from l0keras.gates import HardConcreteGate
from l0keras.gates import gates_of
from l0keras.graph.rules import BARRIER
from l0keras.shrinking.optimizer_state import averages_of
from l0keras.shrinking.plan import plan
from l0keras.shrinking.stand_ins import gated_parts

# A gate at the end of the usual range of `log_alpha` opens less often.
HARDLY_EVER = 0.05


def close_gates(
    model: keras.Model,
    below: float = HARDLY_EVER,
    *,
    among: list[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Closes for good the gates of a model that hardly ever open.

    They are exactly 0 from now on, in training as at test time, and are
    charged nothing. So `l0keras.shrink` can cut what is behind them without
    changing anything. Gates of units that nobody reads any more, because all
    that read them are closed, are closed with them.

    That is the only thing about `model` that changes. What is closed is saved
    with the model's weights.

    Source: own; PruneTrain (arXiv:1901.09290) cuts while it trains, too.

    Args:
        model: a built `keras.Model` with gates, such as `l0keras.sparsify`
            makes.
        below: gates are closed whose test gate is 0, by the weights and, where
            the optimizer has averages of weights, by these, and that are open
            in training with a probability below this, in (0, 1].
        among: for each gate layer a boolean array, in the order of
            `l0keras.gates_of(model)`: no others are closed, but for those
            that nobody reads. To ask for gates that were as good as closed
            twice, give what `hardly_open` returned a while ago.

    Returns:
        For each gate layer a boolean array: which are closed for good.

    Raises:
        ValueError: `model` is no Keras model, not built or has no gates; an
            argument out of its range.

    Example:

    >>> gated.fit(images, labels, epochs=10)
    >>> l0keras.close_gates(gated)
    >>> smaller = l0keras.shrink(gated)
    >>> smaller.fit(images, labels, initial_epoch=10, epochs=20)
    """
    found = hardly_open(model, below)
    gates = gates_of(model)
    if among is not None:
        _check_among(among, gates, found)
        found = [mask & other for mask, other in zip(found, among)]
    close(model, gates, found)
    while True:
        graph, parts = plan(model)
        left = left_gates(model, graph, parts)
        idle = [
            ~mask & ~gate.closed_for_good()
            for gate, mask in zip(gates, left, strict=True)
        ]
        if not any(map(np.any, idle)):
            return [gate.closed_for_good() for gate in gates]
        close(model, gates, idle)


def hardly_open(
    model: keras.Model, below: float = HARDLY_EVER
) -> list[np.ndarray]:
    """Which gates of a model are 0 at test time and hardly ever open.

    Args:
        model, below: as in `close_gates`.

    Returns:
        For each gate layer a boolean array, in the order of
        `l0keras.gates_of(model)`.

    Raises:
        ValueError: as `close_gates`.
    """
    gates = gates_of(model)
    if not gates:
        raise ValueError(
            "Argument `model` must be a model with gates, such as "
            f"`l0keras.sparsify` returns. Received: model '{model.name}' "
            "without any"
        )
    if not 0 < below <= 1:
        raise ValueError(
            "Argument `below` must be a probability in (0, 1]. "
            f"Received: below={below!r}"
        )
    averages = averages_of(getattr(model, "optimizer", None))
    found = []
    for gate in gates:
        log_alpha = gate.current_log_alpha()
        shut = _shut(gate, log_alpha) & (gate.prob_open() < below)
        average = averages.get(id(log_alpha))
        if average is not None:
            shut &= _shut(gate, average)
        found.append(shut)
    return found


def _shut(gate, log_alpha):
    """Which test gates are 0, of all that there were at first."""
    sigmoid = ops.convert_to_numpy(ops.sigmoid(log_alpha))
    gamma, zeta = gate.constants["gamma"], gate.constants["zeta"]
    return sigmoid * (zeta - gamma) + gamma <= 0


def close(model, gates, masks):
    """Closes gates for good, and their averages with them.

    Args:
        model: the model that they are in.
        gates: `HardConcreteGate` layers.
        masks: for each of them a boolean array of the shape of `log_alpha`.
    """
    averages = averages_of(getattr(model, "optimizer", None))
    for gate, mask in zip(gates, masks, strict=True):
        if not np.any(mask):
            continue
        gate.close(mask)
        average = averages.get(id(gate.log_alpha))
        if average is not None:
            closed = ops.convert_to_numpy(gate.log_alpha)
            own = ops.convert_to_numpy(average)
            average.assign(np.where(mask, closed, own))


def left_gates(model, graph, parts):
    """Which gates a plan leaves.

    Args:
        model: the model of the plan.
        graph, parts: what `plan` returns.

    Returns:
        For each gate layer of `model` a boolean array of the shape of
        `log_alpha`.
    """
    left = {}

    def add(gate, masks):
        kept = [np.array(mask) for mask in gate.kept or _all(gate)]
        for mask, now in zip(kept, masks or kept):
            mask[mask] = now[: mask.sum()] if masks else True
        whole = np.ones((), bool)
        for mask in kept:
            whole = whole[..., None] & mask
        known = left.get(_key(gate), False)
        left[_key(gate)] = known | whole

    for node in graph.nodes:
        if not node.alive:
            continue
        owner = node.operation.owner
        part = parts.get(id(node.operation))
        if part is None or node.rule is BARRIER:
            if isinstance(owner, keras.Layer):
                for gate in gates_of(owner):
                    add(gate, None)
        elif isinstance(owner, HardConcreteGate):
            add(owner, part.kept[0])
        else:
            for one, masks in zip(gated_parts(owner), part.kept):
                # What it is given has a node of its own.
                if one.gate is not None:
                    add(one.gate, masks)
    return [
        left.get(_key(gate), np.zeros(gate.prob_open().shape, bool))
        for gate in gates_of(model)
    ]


def _key(gate):
    """What two gates have in common that are one, or a copy of the other."""
    if gate.log_alpha is not None:
        return id(gate.log_alpha)
    generator, index = gate.generated_by()
    return id(generator), index


def _all(gate):
    return [np.ones(size, bool) for size in gate.prob_open().shape]


def _check_among(among, gates, found):
    shapes = [np.shape(mask) for mask in among]
    if shapes != [mask.shape for mask in found]:
        raise ValueError(
            "Argument `among` must have a boolean array for each of the "
            f"{len(gates)} gate layers, of the shape of its gates. "
            f"Received: arrays of the shapes {shapes}"
        )
