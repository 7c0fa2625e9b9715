import math
import warnings

import keras
import numpy as np

from l0keras.callbacks.averaged_weights import averaged_weights
from l0keras.gates import gates_of

# How often a training is looked at.
_LOOKS = 20
# A gate closes steadily if it keeps this share of what it moves. A random walk
# of ten looks keeps as much with a probability below 0.01.
_STEADY = 0.8
# So many gates have to close steadily for more steps to be the answer.
_SHARE = 0.05
# Gates that need more than this many times the steps hardly feel their price.
_MOST_TIMES = 1000


class WarnOpenGates(keras.callbacks.Callback):
    """Warns where a training ends and no gate has closed, and says why.

    There are two reasons, which look the same from outside. Gates that go
    down all the time but have not arrived had too few steps for their speed:
    with Adam each step moves `log_alpha` by the learning rate, whatever the
    price. Gates that stay, go up, or go to and fro cost too little: what they
    earn holds them open.

    The positions of all gates are noted up to 20 times in a training. Gates
    that go down in nearly all of the second half, at least a twentieth of
    them, mean too few steps. Frozen gates are not looked at, and gates count
    with their averaged weights if the optimizer keeps averages.

    Args:
        more_steps: what to change where there were too few steps, for
            programs whose users set something else than this library's
            arguments: a phrase that follows "Change".
        higher_price: the same for a price that is too low.

    Warns:
        UserWarning: at the end of `fit`, if the model has gates that train
            and all of its test gates are open.

    Example:

    >>> gated.fit(x, y, callbacks=[l0keras.callbacks.WarnOpenGates()])
    """

    def __init__(
        self,
        more_steps: str = (
            "`epochs`; or the learning rate of the gates, see "
            "`l0keras.optimizers.OptimizerGroups`; or ask for a size, "
            "`l0keras.sparsify(model, target=..., steps=...)`"
        ),
        higher_price: str = (
            "`l0`, the price of a weight; or ask for a size, "
            "`l0keras.sparsify(model, target=..., steps=...)`"
        ),
    ):
        super().__init__()
        self.more_steps = more_steps
        self.higher_price = higher_price

    def on_train_begin(self, logs=None):
        self._gates = [gate for gate in gates_of(self.model) if gate.trainable]
        self._steps, self._positions = [], []
        self._before, self._step = 0, 0
        total = (self.params.get("epochs") or 1) * (
            self.params.get("steps") or 0
        )
        # Without a known number of steps the ends of epochs have to do.
        self._every = max(1, total // _LOOKS) if total else math.inf
        self._look()

    def on_train_batch_end(self, batch, logs=None):
        self._step = self._before + batch + 1
        if self._gates and self._step >= self._steps[-1] + self._every:
            self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._before = self._step
        # Not at the end of the training: by then averages may have taken the
        # place of the weights.
        if self._gates and self._step > self._steps[-1]:
            self._look()

    def on_train_end(self, logs=None):
        if not self._gates or len(self._steps) < 2:
            return
        with averaged_weights(self.model):
            if any(np.any(gate.test_gates() == 0) for gate in self._gates):
                return
        warnings.warn(self._reason(), stacklevel=2)

    def _look(self):
        if self._gates:
            # On JAX, asking for it brings its variables up to date.
            self.model
            self._steps.append(self._step)
            self._positions.append(
                np.concatenate([_above_zero(gate) for gate in self._gates])
            )

    def _reason(self):
        middle = (len(self._steps) - 1) // 2
        steps = self._steps[-1] - self._steps[middle]
        late = np.array(self._positions[middle:])
        # Weights may have arrived of which the averages have not.
        ahead = np.maximum(late[-1], 0.0)
        down = late[0] - late[-1]
        path = np.abs(np.diff(late, axis=0)).sum(0)
        steady = (down > 0) & (down >= _STEADY * path)
        left = np.full(down.shape, np.inf)
        left[steady] = ahead[steady] * steps / down[steady]
        first = int(np.argmin(left))
        text = (
            f"Training ended after {self._steps[-1]} steps with all "
            f"{down.size} gates open. "
        )
        close = left <= _MOST_TIMES * self._steps[-1]
        if np.mean(close) >= _SHARE:
            moved = self._positions[0][first] - late[-1][first]
            return (
                f"{text}There were too few steps for the speed of the gates: "
                f"`log_alpha` of the nearest one went down by {moved:.2g} and "
                f"has {ahead[first]:.2g} left to go, about "
                f"{left[first]:,.0f} further steps at this speed. "
                f"Change {self.more_steps}."
            )
        moved = float(np.mean(late[-1] - self._positions[0]))
        return (
            f"{text}Their price is too low: {np.mean(close):.0%} of them "
            f"were about to close, and `log_alpha` moved by {moved:+.2g} on "
            f"average. Change {self.higher_price}."
        )


def _above_zero(gate):
    """How far `log_alpha` is above where the test gate is 0, an array.

    From the probability of being open, which all gates can tell.
    """
    constants = gate.constants
    prob = np.clip(np.asarray(gate.prob_open(), "float64"), 1e-12, 1 - 1e-7)
    edge = math.log(-constants["gamma"] / constants["zeta"])
    log_alpha = np.log(prob / (1 - prob)) + constants["temperature"] * edge
    return (log_alpha - edge).ravel()
