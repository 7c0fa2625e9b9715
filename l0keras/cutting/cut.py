import keras
import numpy as np
from keras import ops

from l0keras import hard_concrete
from l0keras.cutting.choose_gates import CostCounter
from l0keras.cutting.choose_gates import CutCounter
from l0keras.cutting.choose_gates import choose_gates
from l0keras.gates import GateBudget
from l0keras.gates import gates_of
from l0keras.gates import hold_gates
from l0keras.gates import open_gates
from l0keras.stripping.plan import check_widths
from l0keras.stripping.strip import strip
from l0keras.targets import Target
from l0keras.targets import as_targets
from l0keras.targets import size_of

# What is large enough, as a share of the size that is asked for.
_ENOUGH = 0.985
_MOST_CUTS = 10
# Points of the distribution by which the mean of a gate is taken.
_POINTS = 100


def cut(
    gated: keras.Model,
    target: Target | list[Target] | None = None,
    *,
    min_units: int = 1,
    round_to: int | None = None,
    representative_data=None,
    check: bool = True,
) -> keras.Model:
    """Cuts a model with gates to the size that is asked for, never above.

    Gates are ranked by their `log_alpha`, across the whole model. The best
    stay as long as the model that `strip` leaves fits; of the others, in
    order, each that still does. A gate that stays keeps its value, or the
    mean of its distribution where its test gate is 0.

    The result is to be trained further, as the weights are not used to the
    last gates that go; `callbacks.refresh_batch_norm` comes first where there
    is batch normalization. Gates that were closed for good stay closed.

    Source: the ranking at the end is that of Xia, Zhong and Chen, ACL 2022
    (arXiv:2204.00408), there in each layer by itself.

    Args:
        gated: a model with gates, of `l0keras.sparsify` or with gated layers.
            It is not changed.
        target: an `l0keras.targets.Target` or a list of several. `None` for
            what `sparsify` was asked for. Shares are of the model with all
            gates open; of one that `l0keras.shrink` made, all that are left.
        min_units: how many gates of each vector stay at least, and units of
            each layer.
        round_to: as in `l0keras.strip`; the size includes what is added.
        representative_data: as in `l0keras.export_tflite`, for targets of
            files in `"int8"` or `"int16x8"`.
        check: as in `l0keras.strip`.

    Returns:
        A plain `keras.Model` as of `l0keras.strip`.

    Raises:
        ValueError: `gated` has no gates, or no target was asked for; the size
            cannot be reached; see also `l0keras.strip`.
        RuntimeError: see `l0keras.strip`.

    Example:

    >>> gated = l0keras.sparsify(model, target=Target("macs", 0.25), steps=900)
    >>> gated.compile("adam", "mse")
    >>> gated.fit(x, y, epochs=9, steps_per_epoch=100)
    >>> small = l0keras.cut(gated)
    """
    sizes = {"min_units": min_units, "round_to": round_to}
    kept = kept_gates(gated, target, representative_data, **sizes)
    return cut_to(gated, kept, check=check, **sizes)


def kept_gates(gated, target, representative_data, *, min_units, round_to):
    """The gates that `cut` keeps. Measured latencies may change them.

    Args:
        gated, target, representative_data, min_units, round_to: as in `cut`.

    Returns:
        A boolean array for all gates of the model, for `cut_to`.

    Raises:
        ValueError: as `cut`.
    """
    check_widths(min_units, 1 if round_to is None else round_to)
    if not isinstance(gated, keras.Model):
        raise ValueError(
            "Argument `gated` must be a Keras model with gates. "
            f"Received: gated={gated!r}"
        )
    budget, gates = _gates(gated)
    cutter = _Cutter(
        *(gated, budget, gates, min_units, round_to, representative_data)
    )
    if target is None and (budget is None or not budget.targets):
        raise ValueError(
            "Argument `target` must be given for a model that `sparsify` was "
            f"not asked a size for. Received: target={target!r}"
        )
    if target is None:
        targets, counter = budget.targets, CostCounter(budget.costs)
    else:
        targets = cutter.absolute(as_targets(target))
        counter = CutCounter(
            lambda kept: cutter.sizes(cutter.strip(kept), targets)
        )
    return cutter.choose(counter, targets)


def cut_to(gated, kept, *, min_units, round_to, check):
    """Cuts a model to the gates that `kept_gates` gives.

    Args:
        gated, min_units, round_to, check: as in `cut`.
        kept: a boolean array.

    Returns:
        A plain `keras.Model`.
    """
    budget, gates = _gates(gated)
    cutter = _Cutter(gated, budget, gates, min_units, round_to, None)
    return cutter.strip(kept, check=check)


def _gates(gated):
    """The `GateBudget` of a model, or `None`, and the gates in its order.

    Gates that it does not make stay as they are. `None` is in the place of
    those that `shrink` has left nothing of.
    """
    gates = gates_of(gated)
    if not gates:
        raise ValueError(
            "Argument `gated` must be a model with gates, such as "
            f"`l0keras.sparsify` returns. Received: model '{gated.name}' "
            "without any"
        )
    made = [(gate, gate.generated_by()) for gate in gates]
    made = [
        (by, gate) for gate, by in made if by and isinstance(by[0], GateBudget)
    ]
    if not made:
        return None, gates
    budget = made[0][0][0]
    found = {index: gate for (_, index), gate in made}
    return budget, [found.get(index) for index in range(len(budget.units))]


class _Cutter:
    """Strips a model with a choice of its gates."""

    def __init__(self, gated, budget, gates, min_units, round_to, data):
        self._gated = gated
        self._gates = [gate for gate in gates if gate is not None]
        self._arguments = {"min_units": min_units, "round_to": round_to}
        self._min_units = min_units
        self._data = data
        self._values, scores, allowed = [], [], []
        for index, gate in enumerate(gates):
            if gate is None:
                scores.append(np.full(budget.units[index], -np.inf))
                allowed.append(np.zeros(budget.units[index], bool))
                self._values.append(None)
                continue
            log_alpha = ops.convert_to_numpy(gate.current_log_alpha())
            scores.append(log_alpha.reshape(-1))
            allowed.append(~gate.closed_for_good().reshape(-1))
            self._values.append(_values(gate, log_alpha))
        self._sizes = [len(own) for own in scores]
        self.scores = np.concatenate(scores)
        self._allowed = np.concatenate(allowed)

    def absolute(self, targets):
        """Targets with numbers in the place of shares."""
        if all(one.share is None and not one.each for one in targets):
            return targets
        with open_gates(self._gates):
            dense = strip(self._gated, check=False)
        found = []
        for one in targets:
            size = size_of(dense, one, self._data)
            found.extend(target for target, _ in one.absolute(size))
        return found

    def sizes(self, model, targets):
        return [size_of(model, one, self._data) for one in targets]

    def strip(self, kept, check=False):
        kept = np.split(kept, np.cumsum(self._sizes)[:-1])
        values = [
            np.where(own.reshape(value.shape), value, 0.0)
            for own, value in zip(kept, self._values, strict=True)
            if value is not None
        ]
        with hold_gates(self._gates, values):
            return strip(self._gated, check=check, **self._arguments)

    def choose(self, counter, targets):
        """The gates of the largest model that is found within the targets.

        What a counter says and what is left of a cut model may differ, so
        its limits are moved until the cut model is as large as it may be.
        """
        limits = np.array([one.at_most for one in targets], float)
        protected = self._protected()
        best, most = None, 0.0
        low, high, scale = 0.0, np.inf, 1.0
        # Limits that are close to each other often leave the same gates.
        known = {}
        for _ in range(_MOST_CUTS):
            kept = choose_gates(
                *(self.scores, protected, self._allowed),
                *(counter, limits * scale),
            )
            if kept is None:
                low, scale = scale, (2 * scale if high == np.inf else high)
                if scale == low or scale > 100:
                    break
                continue
            key = kept.tobytes()
            if key not in known:
                sizes = self.sizes(self.strip(kept), targets)
                known[key] = np.max(np.array(sizes, float) / limits)
            share = known[key]
            if share <= 1:
                if share > most:
                    best, most = kept, share
                if share >= _ENOUGH or np.all(kept[self._allowed]):
                    break
                low = scale
            else:
                high = scale
            middle = scale / share
            if not low < middle < high:
                middle = (low + high) / 2
            if abs(middle - scale) < 1e-4 * scale:
                break
            scale = middle
        if best is None:
            smallest = self.sizes(self.strip(protected), targets)
            sizes = ", ".join(
                f"{size:,.0f} {one.of}" for size, one in zip(smallest, targets)
            )
            raise ValueError(
                "Argument `target` must be a size that can be reached. "
                f"Received: {targets}. The smallest is {sizes}"
            )
        return best

    def _protected(self):
        protected = np.zeros(len(self.scores), bool)
        start = 0
        for size in self._sizes:
            own = self.scores[start : start + size]
            best = np.argsort(-own, kind="stable")[: self._min_units]
            protected[start + best[np.isfinite(own[best])]] = True
            start += size
        return protected


def _values(gate, log_alpha):
    """What each gate is if it stays."""
    gates = ops.convert_to_numpy(
        hard_concrete.deterministic_gate(log_alpha, **gate.constants)
    )
    points = (np.arange(_POINTS, dtype="float32") + 0.5) / _POINTS
    points = points.reshape((-1,) + (1,) * log_alpha.ndim)
    mean = hard_concrete.quantile(points, log_alpha[None], **gate.constants)
    mean = ops.convert_to_numpy(mean).mean(axis=0)
    return np.where(gates > 0, gates, np.maximum(mean, 1e-3))
