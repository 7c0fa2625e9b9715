import warnings

import keras
import numpy as np
from keras import ops

from l0keras import hard_concrete
from l0keras.cutting.choose_gates import CostCounter
from l0keras.cutting.choose_gates import CutCounter
from l0keras.cutting.search import Search
from l0keras.gates import GateBudget
from l0keras.gates import gates_of
from l0keras.gates import hold_gates
from l0keras.gates import open_gates
from l0keras.stripping.plan import check_widths
from l0keras.stripping.strip import strip
from l0keras.targets import Target
from l0keras.targets import Yardstick
from l0keras.targets import as_targets
from l0keras.targets.target import size_text

# How often vectors of gates stop growing, for times that grow in steps.
_MOST_STEPS = 4
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


def kept_gates(
    gated, target, representative_data, *, min_units, round_to, yardsticks=None
):
    """The gates that `cut` keeps. Measured latencies may change them.

    Args:
        gated, target, representative_data, min_units, round_to: as in `cut`.
        yardsticks: the `Yardstick`s to measure with, by `Target.about`, after
            `check_reachable`: a time that cannot be reached any more then
            gives the smallest model and a warning. `None` for ones of `gated`
            with all gates open.

    Returns:
        A boolean array for all gates of the model, for `cut_to`.

    Raises:
        ValueError: as `cut`.
    """
    check_widths(min_units, round_to)
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
        cutter.set_budgets(budget, yardsticks or {})
        counter = CostCounter(budget.costs)
    else:
        cutter.set_targets(as_targets(target))
        counter = CutCounter(lambda kept: cutter.sizes(cutter.strip(kept)))
    if yardsticks is None:
        cutter.check_reachable()
    return cutter.choose(counter)


def check_reachable(
    gated, representative_data, *, min_units, round_to, yardsticks
):
    """Refuses latencies that are below that of the smallest model.

    `sparsify` compares them with a table of layers, which is a guess.

    Args:
        gated: a model of `sparsify` with a target.
        representative_data, min_units, round_to, yardsticks: as in
            `kept_gates`.

    Raises:
        ValueError: the smallest model takes longer.
    """
    budget, gates = _gates(gated)
    cutter = _Cutter(
        *(gated, budget, gates, min_units, round_to, representative_data)
    )
    cutter.set_budgets(budget, yardsticks)
    cutter.check_reachable()


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
        # What is asked for, in numbers, and how it is measured.
        self._targets, self._yardsticks = [], []
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
        self._scores = np.concatenate(scores)
        self._allowed = np.concatenate(allowed)

    def set_targets(self, targets):
        """Says what is asked for: shares of the model with all gates open."""
        dense = self._open()
        for one in targets:
            yardstick = Yardstick(one, dense, None, self._data)
            for target, size in one.absolute(yardstick.size):
                # Each layer has a target of its own.
                self._targets.append(target)
                self._yardsticks.append(
                    Yardstick(target, dense, size, self._data)
                    if one.each
                    else yardstick
                )

    def set_budgets(self, budget, yardsticks):
        """Says what `sparsify` was asked for."""
        self._targets = budget.targets
        for target, size in zip(
            budget.targets, budget.full_costs(), strict=True
        ):
            yardstick = yardsticks.get(target.about)
            if yardstick is None:
                model = None
                if target.of == "latency":
                    model = self._open()
                    # Nobody has measured what `shrink` leaves.
                    size = size if np.all(self._allowed) else None
                yardstick = Yardstick(target, model, size, self._data)
            self._yardsticks.append(yardstick)

    def _open(self):
        with open_gates(self._gates):
            return strip(self._gated, check=False)

    def sizes(self, model):
        return [one.size_of(model) for one in self._yardsticks]

    def strip(self, kept, check=False):
        kept = np.split(kept, np.cumsum(self._sizes)[:-1])
        values = [
            np.where(own.reshape(value.shape), value, 0.0)
            for own, value in zip(kept, self._values, strict=True)
            if value is not None
        ]
        with hold_gates(self._gates, values):
            return strip(self._gated, check=check, **self._arguments)

    def choose(self, counter):
        """The gates of the largest model that is found within the targets."""
        limits = np.array([one.at_most for one in self._targets], float)
        timed = any(one.of == "latency" for one in self._targets)
        protected = self._protected()
        search = Search(
            *(self._scores, protected, counter, limits, self._sizes),
            lambda kept: np.max(self.sizes(self.strip(kept)) / limits),
        )
        best = search.find(self._allowed, _MOST_STEPS if timed else 1)
        if best is not None:
            return best
        smallest = self.sizes(self.strip(protected))
        if not timed:
            self._refuse(smallest)
        _warn(self._targets, smallest)
        return protected

    def check_reachable(self):
        """Raises a `ValueError` if the smallest model takes too long."""
        if not any(one.of == "latency" for one in self._targets):
            # Those that are counted are compared with what is left.
            return
        smallest = self.sizes(self.strip(self._protected()))
        for size, target in zip(smallest, self._targets):
            if target.of == "latency" and size > target.at_most:
                self._refuse(smallest)

    def _refuse(self, smallest):
        raise ValueError(
            "Argument `target` must be a size that can be reached. "
            f"Received: {self._targets}. The smallest is "
            f"{_texts(self._targets, smallest)}"
        )

    def _protected(self):
        protected = np.zeros(len(self._scores), bool)
        start = 0
        for size in self._sizes:
            own = self._scores[start : start + size]
            best = np.argsort(-own, kind="stable")[: self._min_units]
            protected[start + best[np.isfinite(own[best])]] = True
            start += size
        return protected


def _warn(targets, sizes):
    warnings.warn(
        "No choice of gates was measured to be as small as asked for by "
        f"{targets}. The smallest model was taken: {_texts(targets, sizes)}. "
        "Other work of the machine may have slowed it.",
        stacklevel=4,
    )


def _texts(targets, sizes):
    return ", ".join(
        size_text(one.of, size) for one, size in zip(targets, sizes)
    )


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
