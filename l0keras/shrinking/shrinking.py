import contextlib
import warnings
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from l0keras.gates import gates_of
from l0keras.optimizers.hold_zeros import pack_masks
from l0keras.optimizers.hold_zeros import unpack_masks
from l0keras.shrinking.close_gates import HARDLY_EVER
from l0keras.shrinking.close_gates import close
from l0keras.shrinking.close_gates import close_gates
from l0keras.shrinking.close_gates import hardly_open
from l0keras.shrinking.optimizer_state import check_optimizer
from l0keras.shrinking.plan import zeros_for_good
from l0keras.shrinking.shrink import shrink_parts
from l0keras.shrinking.work import saved_work
from l0keras.shrinking.work import steps_of_a_cut
from l0keras.stripping.plan import check_widths

# A cut has to save so much more than it costs, and this share of a step.
_MARGIN = 1.5
_LEAST = 0.1


class Shrinking:
    """Trains a model that gets smaller while it trains.

    Units leave it that are behind closed gates, or whose weights an optimizer
    of this library leaves at 0, see `l0keras.shrink`.

    After each epoch the gates are looked at. Those whose test gate is 0 and
    that hardly ever open, now and at the look before, are closed for good, see
    `l0keras.close_gates`; only the best `min_units` of each layer stay. Where
    what is closed or 0 makes up more work in the steps that are left than a
    cut costs, after which the step has to be traced anew, the model is cut and
    the smaller one trains on.

    What pays is estimated from counts, not timed, so a training can be
    repeated. One that was stopped goes on with
    `l0keras.callbacks.Checkpoint(path, shrinking)` and makes the same steps as
    one without a stop.

    Source: own; PruneTrain (arXiv:1901.09290) cuts while it trains, too.

    Args:
        steps_per_epoch: the number of steps in an epoch, at least 1.
        batch_size: the number of examples in a step, at least 1.
        min_units, round_to: as in `l0keras.shrink`.
        below: as in `l0keras.close_gates`.

    Attributes:
        cuts: a list of dictionaries, one for each cut: "epoch", the number of
            epochs before it, and "saved", the share of the work of a step that
            it took away.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> shrinking = l0keras.Shrinking(steps_per_epoch=469, batch_size=128)
    >>> gated = shrinking.fit(gated, {"x": x, "y": y}, epochs=20)
    >>> small = l0keras.strip(gated)
    """

    def __init__(
        self,
        steps_per_epoch: int,
        batch_size: int = 32,
        *,
        min_units: int = 1,
        round_to: int | None = None,
        below: float = HARDLY_EVER,
    ):
        _check_count("steps_per_epoch", steps_per_epoch)
        _check_count("batch_size", batch_size)
        check_widths(min_units, round_to)
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._below = below
        self._widths = {"min_units": min_units, "round_to": round_to}
        self.cuts = []
        # By gates: which were hardly open at the last look, and which were
        # closed when the model was last cut.
        self._hardly_open, self._cut_off = {}, {}
        # By paths: which weights of the first model were 0 for good then.
        self._zeros = {}
        # Whether it was found that the model cannot be cut.
        self._whole = False
        # The model before the first cut, and for each variable of the last
        # one, by its id, where it came from in there.
        self._first, self._origins = None, {}

    # === Training ===

    def fit(
        self,
        model: keras.Model,
        arguments: dict | Callable,
        *,
        epochs: int,
        initial_epoch: int = 0,
        callbacks: list | None = None,
        around: Callable = contextlib.nullcontext,
    ) -> keras.Model:
        """Trains a model up to an epoch.

        Args:
            model: a compiled `keras.Model`. It is trained until it is cut.
            arguments: the other arguments of `keras.Model.fit`, a dictionary;
                or a function from the number of finished epochs to those to
                go on with, for data that come in an order.
            epochs, initial_epoch, callbacks: as in `fit`. Callbacks see one
                training, in which their `model` changes.
            around: a function from a model to a context manager in which it is
                trained.

        Returns:
            The model that was trained last, compiled; `model` itself where
            nothing was cut. Its `history` is that of all epochs.
        """
        look = _Look(self, epochs)
        callbacks = [*(callbacks or []), keras.callbacks.History(), look]
        first = initial_epoch
        if 0 < first < epochs:
            # A training that was stopped has not come to that.
            model = self.look(model, first, epochs)
        while True:
            given = arguments
            if callable(arguments):
                given = arguments(initial_epoch)
            verbose = given.get("verbose", "auto")
            told = _Callbacks(
                callbacks,
                add_progbar=verbose != 0,
                verbose=verbose,
                epochs=epochs,
                steps=self._steps_per_epoch,
                model=model,
            )
            told.begins = initial_epoch == first
            look.smaller = None
            with around(model):
                model.fit(
                    **given,
                    epochs=epochs,
                    initial_epoch=initial_epoch,
                    callbacks=told,
                )
            if look.smaller is None:
                return model
            # With the progress bar, if there is one.
            callbacks = told.callbacks
            model, initial_epoch = look.smaller, look.done

    def look(self, model: keras.Model, epoch: int, epochs: int) -> keras.Model:
        """Closes gates for good, and cuts the model where that pays.

        `fit` does that after each epoch. In a loop of one's own, call it there.

        Args:
            model: the compiled model in its training.
            epoch: the number of finished epochs.
            epochs: the number of epochs in all.

        Returns:
            The smaller model, compiled; `model` itself where it was not cut.

        Warns:
            UserWarning: the model cannot be cut, see `l0keras.shrink`: it is
                not tried again.
        """
        if self._whole:
            return model
        gates = _by_names(model)
        known = dict(self._cut_off), dict(self._zeros)
        try:
            return self._look(model, gates, epoch, epochs)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            self._cut_off, self._zeros = known
            self._whole = True
            warnings.warn(
                "The model trains on with all of its units, since it cannot "
                f"be cut while it trains. {error}",
                stacklevel=2,
            )
            return model

    def _look(self, model, gates, epoch, epochs):
        # Before any gate is closed for a cut that cannot be made.
        check_optimizer(model.optimizer)
        closed = self._close(model, gates)
        zeros = zeros_for_good(model)
        if not any(map(np.any, [*closed.values(), *zeros.values()])):
            return model
        saved = saved_work(model, **self._widths)
        steps = (epochs - epoch) * self._steps_per_epoch
        cost = steps_of_a_cut(model, self._batch_size)
        if saved < _LEAST or saved * steps < _MARGIN * cost:
            return model
        self._cut_off.update(closed)
        smaller = self._cut(model, zeros)
        self.cuts.append({"epoch": epoch, "saved": saved})
        return smaller

    def _close(self, model, gates):
        """Closes gates for good; returns which are, by their names."""
        if not gates:
            return {}
        now = dict(zip(gates, hardly_open(model, self._below)))
        for name, mask in now.items():
            mask[self._best(gates[name])] = False
        among = [
            mask & self._hardly_open.get(name, False)
            for name, mask in now.items()
        ]
        self._hardly_open = now
        if any(map(np.any, among)):
            close_gates(model, self._below, among=among)
        return {name: gate.closed_for_good() for name, gate in gates.items()}

    def _cut(self, model, zeros):
        if self._first is None:
            self._first = model
            self._origins = {id(v): (v, None) for v in model.variables}
        for variable in model.trainable_variables:
            mask = zeros.get(variable.path)
            if mask is not None:
                whole, index = self._origins[id(variable)]
                known = self._zeros.get(whole.path)
                self._zeros[whole.path] = _filled(known, whole, index, mask)
        smaller, origins = shrink_parts(model, **self._widths, zeros=zeros)
        self._origins = {
            key: _part(*self._origins[id(variable)], index)
            for key, (variable, index) in origins.items()
        }
        return smaller

    def _empty(self, model, gates, zeros):
        """Closes gates for good and sets weights to 0, as in the first model.

        Args:
            model: a model like the first one.
            gates: its gates, by the names of those of the first one.
            zeros: masks by the paths of variables of the first one.
        """
        masks = [
            self._cut_off.get(name, np.zeros(gate.prob_open().shape, bool))
            for name, gate in gates.items()
        ]
        close(model, gates.values(), masks)
        first = self._first or model
        for known, variable in zip(first.variables, model.variables):
            if known.path in zeros:
                value = ops.convert_to_numpy(variable)
                variable.assign(np.where(zeros[known.path], 0, value))

    def _best(self, gate):
        """The places of the gates of a layer that are not closed for good."""
        log_alpha = ops.convert_to_numpy(gate.current_log_alpha())
        ascending = np.argsort(log_alpha, axis=None, kind="stable")
        best = ascending[-self._widths["min_units"] :]
        return np.unravel_index(best, log_alpha.shape)

    # === Going on ===

    def state(self) -> dict:
        """All that a training goes on from, in plain Python types."""
        return {
            "cuts": self.cuts,
            "hardly_open": _listed(self._hardly_open),
            "cut_off": _listed(self._cut_off),
            "zeros": pack_masks(self._zeros),
        }

    def restore(self, model: keras.Model, state: dict) -> keras.Model:
        """Cuts a model as it was cut when a state was saved.

        Args:
            model: the model as it was before its training, compiled. Gates
                are closed and weights set to 0.
            state: what `state` returned.

        Returns:
            The smaller model, compiled, with variables of the shapes that it
            had; `model` itself if it had not been cut.

        Raises:
            ValueError: the state is one of a model with other gates.
        """
        hardly, cut_off = (
            {name: np.array(mask, bool) for name, mask in state[key].items()}
            for key in ("hardly_open", "cut_off")
        )
        gates = _by_names(model)
        for name, mask in cut_off.items():
            if name not in gates or gates[name].prob_open().shape != mask.shape:
                raise ValueError(
                    "Argument `state` must be that of a training of the same "
                    f"model. Received: a state with the gates '{name}' of "
                    f"shape {mask.shape}, which the model has not"
                )
        self.cuts = list(state["cuts"])
        self._hardly_open, self._cut_off = hardly, cut_off
        zeros = unpack_masks(state["zeros"])
        if not self.cuts:
            return model
        self._first = None
        self._empty(model, gates, zeros)
        return self._cut(model, zeros)

    def fill(self, model: keras.Model, smaller: keras.Model):
        """Gives a model what a smaller one has learned.

        Both compute the same at test time then: what the smaller one has not
        is behind closed gates, or nobody reads it.

        Args:
            model: the model that was trained first, or one made like it.
            smaller: what `fit` returned.
        """
        if self._first is None:
            model.set_weights(smaller.get_weights())
            return
        names = list(_by_names(self._first))
        self._empty(model, dict(zip(names, gates_of(model))), self._zeros)
        places = {id(v): i for i, v in enumerate(self._first.variables)}
        for variable in smaller.variables:
            original, index = self._origins[id(variable)]
            filled = model.variables[places[id(original)]]
            value = ops.convert_to_numpy(variable)
            if index is not None:
                whole = ops.convert_to_numpy(filled).copy()
                whole.flat[index] = value
                value = whole
            filled.assign(value)


def _check_count(name, number):
    if not isinstance(number, int) or number < 1:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least 1. "
            f"Received: {name}={number!r}"
        )


def _by_names(model):
    """The gates of a model, by names that they keep when it is cut."""
    return {_name(gate): gate for gate in gates_of(model)}


def _name(gate):
    if gate.log_alpha is not None:
        return gate.log_alpha.path
    generator, index = gate.generated_by()
    return f"{generator.weights[0].path}:{index}"


def _part(original, outer, index):
    """The part of a part of a variable."""
    if outer is None or index is None:
        return original, index if outer is None else outer
    return original, outer.reshape(-1)[index]


def _filled(known, variable, index, mask):
    """Sets a mask of a variable to `True` where one of a part of it is."""
    known = np.zeros(variable.shape, bool) if known is None else known
    if index is None:
        return known | mask
    known = known.copy()
    known.flat[index[mask]] = True
    return known


def _listed(masks):
    return {name: mask.astype(int).tolist() for name, mask in masks.items()}


class _Look(keras.callbacks.Callback):
    """Looks at the end of each epoch; ends `fit` where the model is cut."""

    def __init__(self, shrinking, epochs):
        super().__init__()
        self._shrinking, self._epochs = shrinking, epochs
        self.smaller, self.done = None, 0

    def on_epoch_end(self, epoch, logs=None):
        self.done = epoch + 1
        if self.model.stop_training or self.done == self._epochs:
            return
        smaller = self._shrinking.look(self.model, self.done, self._epochs)
        if smaller is not self.model:
            # Before the end of `fit`, where averages take the place of weights.
            self.smaller = smaller
            self.model.stop_training = True


class _Callbacks(keras.callbacks.CallbackList):
    """Tells callbacks of several calls of `fit` as if they were one."""

    begins = True

    def on_train_begin(self, logs=None):
        if self.begins:
            super().on_train_begin(logs)
        else:
            self._on_begin()

    def on_train_end(self, logs=None):
        (look,) = (one for one in self.callbacks if isinstance(one, _Look))
        if look.smaller is None:
            super().on_train_end(logs)
        else:
            self._on_end()
