import keras
from keras import ops

from trainers.studies.multipliers.multiplier import Multiplier

# The rate of the ascent times the number of steps: 1e-4, as the authors have
# it for MNIST, in 200 epochs of 469 batches.
ASCENT = 9.4


@keras.saving.register_keras_serializable("l0keras.trainers")
class Lagrange(Multiplier):
    """Gradient ascent on the multipliers, with restarts.

    A multiplier grows by what its cost has too much, and falls to 0 where the
    cost keeps to the budget:

        multiplier <- multiplier + rate * (C - T)   if C > T, else 0.

    The rate is the authors' for MNIST, made so much larger for a smaller
    number of steps that the multiplier comes as far.

    Source: Gallego-Posada et al., "Controlled sparsity via constrained
    optimization", NeurIPS 2022 (arXiv:2208.04425), sections 3 and 4.
    """

    def next_multipliers(self, shares, log_alphas):
        del log_alphas
        error = shares - self.limits
        before = ops.convert_to_tensor(self.multipliers)
        return ops.where(error > 0, before + ASCENT / self.steps * error, 0.0)
