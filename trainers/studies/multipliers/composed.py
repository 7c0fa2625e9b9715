import keras
import numpy as np
from keras import ops

from trainers.studies.multipliers.multiplier import Multiplier
from trainers.studies.multipliers.multiplier import share_of_steps

# The shares of the steps at which the budget begins to shrink, has done so,
# and at which the multipliers are held.
BEGIN, ARRIVAL, HELD = 0.05, 0.4, 0.85
RATE = 0.1
DAMPING = 50.0
# How often, in steps, and by how much the offset follows.
LOOK, FOLLOW = 100, 0.1
# Above this a test gate is open.
OPEN = -2.3979


@keras.saving.register_keras_serializable("l0keras.trainers")
class Composed(Multiplier):
    """A controller composed of what several sources have.

        b           <- b + 0.1 (C_T - C_E - b)           each 100 steps
        T_t          = T + (1 - T) (1 - p)^3             from 5 to 40 % of them
        e_t          = C_E + b - T_t
        multiplier  <- max(0, multiplier
                              + 0.1 S (e_t + 50 (e_t - e_(t-1))))

    C_E is the expected cost and C_T the cost with test gates, as shares. The
    multipliers are held from 85 % of the steps. S is how strongly the task
    pulls at the gates in comparison with the cost; a layer does not see the
    gradient of the task while it is called, so `calibrate` measures S once,
    before the training.

    Source: own composition. The schedule is that of Zhu and Gupta, 2017
    (arXiv:1710.01878), the proportional part as in `NuPI`; a true cost now and
    then beside a differentiable one is from Cooper.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.before = self.add_state("before")
        self.offset = self.add_state("offset")
        self.scale = self.add_state("scale", "ones")

    def allowed_shares(self):
        """What the schedule allows at this step, a tensor `(budgets,)`."""
        passed = share_of_steps(self.step, self.steps)
        passed = ops.clip((passed - BEGIN) / (ARRIVAL - BEGIN), 0.0, 1.0)
        return self.limits + (1.0 - self.limits) * (1.0 - passed) ** 3

    def next_multipliers(self, shares, log_alphas):
        step = ops.convert_to_tensor(self.step)
        is_open = [ops.cast(x > OPEN, "float32") for x in log_alphas]
        true = ops.stack([cost.cost(is_open) for cost in self.costs])
        offset = ops.convert_to_tensor(self.offset)
        moved = offset + FOLLOW * (true / self._full - shares - offset)
        offset = ops.where(step % LOOK == LOOK - 1, moved, offset)
        self.offset.assign(offset)

        error = shares + offset - self.allowed_shares()
        before = ops.convert_to_tensor(self.before)
        before = ops.where(step == 0, error, before)
        self.before.assign(error)
        change = error + DAMPING * (error - before)
        multipliers = ops.convert_to_tensor(self.multipliers)
        scale = RATE * ops.convert_to_tensor(self.scale)
        moved = ops.maximum(multipliers + scale * change, 0.0)
        held = share_of_steps(self.step, self.steps) >= HELD
        return ops.where(held, multipliers, moved)


def calibrate(controller, model, loss, batches):
    """Measures how strongly the task pulls at the gates, with TensorFlow.

    The scale of the controller becomes the mean over batches of

        |d task / d log_alpha|_1 / |d C_E / d log_alpha|_1.

    Args:
        controller: a `Composed`.
        model: the model whose gates it makes. It is left as it was.
        loss: a function of labels and outputs.
        batches: pairs of inputs and labels.
    """
    import tensorflow as tf

    state = [(v, v.numpy().copy()) for v in model.non_trainable_variables]
    gates = [variable.value for variable in controller.trainable_variables]
    ratios = []
    for inputs, labels in batches:
        with tf.GradientTape(persistent=True) as tape:
            task = loss(labels, model(inputs, training=True))
            cost = ops.sum(controller.shares(controller.log_alphas()))
        task, cost = (
            sum(float(ops.sum(ops.abs(g))) for g in tape.gradient(of, gates))
            for of in (task, cost)
        )
        ratios.append(task / cost)
    for variable, value in state:
        variable.assign(value)
    controller.scale.assign(np.full(controller.budgets, np.mean(ratios)))
