import keras
from keras import ops

from trainers.studies.multipliers.multiplier import Multiplier

# The authors' rate of 8e-4 times the number of steps of theirs, 200 epochs of
# 391 batches of CIFAR-10; and times 12,000, the gain of the proportional part
# for two of their four targets, which does not depend on that number.
INTEGRAL = 62.6
PROPORTIONAL = 9.6


@keras.saving.register_keras_serializable("l0keras.trainers")
class NuPI(Multiplier):
    """A controller of integral and proportional parts, without smoothing.

        multiplier <- max(0, multiplier + integral * (C - T)
                             + proportional * (C - C_before))

    The authors choose the proportional gain for each target; here, one of
    theirs is for all. The integral gain is made so much larger for a smaller
    number of steps that the multiplier comes as far.

    Source: Sohrabi et al., "On PI controllers for updating Lagrange
    multipliers in constrained optimization", ICML 2024 (arXiv:2406.04558),
    algorithm 1 with nu = 0, which starts as gradient ascent does.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.before = self.add_state("before")

    def next_multipliers(self, shares, log_alphas):
        del log_alphas
        first = ops.convert_to_tensor(self.step) == 0
        before = ops.where(first, shares, ops.convert_to_tensor(self.before))
        self.before.assign(shares)
        change = INTEGRAL / self.steps * (shares - self.limits)
        change = change + PROPORTIONAL * (shares - before)
        multipliers = ops.convert_to_tensor(self.multipliers)
        return ops.maximum(multipliers + change, 0.0)
