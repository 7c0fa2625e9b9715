"""The hard-concrete distribution on [0, 1].

A binary concrete variable is stretched to the interval (gamma, zeta) and
clipped to [0, 1], so that it is exactly 0 or exactly 1 with positive
probability and still differentiable in `log_alpha` in between. Equation
numbers are those of Louizos, Welling and Kingma, "Learning sparse neural
networks through L0 regularization", ICLR 2018 (arXiv:1712.01312).

Everything here is a pure function on tensors, written on `keras.ops`.
"""

import math

from keras import ops
from keras import random

TEMPERATURE = 2.0 / 3.0
GAMMA = -0.1
ZETA = 1.1

# The range of uniform noise, as in the authors' code: it keeps the logistic
# noise within +-13.8, far beyond where float32 still tells gates apart.
EPSILON = 1e-6


def check_parameters(temperature, gamma, zeta):
    """Raises a `ValueError` unless the three describe a hard concrete.

    Args:
        temperature: a float above 0.
        gamma: a float below 0, the lower end of the stretched interval.
        zeta: a float above 1, the upper end of the stretched interval.
    """
    if not temperature > 0:
        raise ValueError(
            "Argument `temperature` must be above 0. "
            f"Received: temperature={temperature}"
        )
    if not gamma < 0:
        raise ValueError(
            "Argument `gamma` must be below 0, or no gate could close. "
            f"Received: gamma={gamma}"
        )
    if not zeta > 1:
        raise ValueError(
            "Argument `zeta` must be above 1, or no gate could open fully. "
            f"Received: zeta={zeta}"
        )


def sample(
    log_alpha,
    seed,
    shape=None,
    temperature=TEMPERATURE,
    gamma=GAMMA,
    zeta=ZETA,
):
    """Draws gates, differentiable in `log_alpha` (equations 10 and 11).

    Args:
        log_alpha: a float tensor of any shape.
        seed: an integer or a `keras.random.SeedGenerator`.
        shape: the shape of the result, to which `log_alpha` must broadcast.
            `None` draws one gate per entry of `log_alpha`.
        temperature: the paper's beta, above 0.
        gamma: the lower end of the stretched interval, below 0.
        zeta: the upper end of the stretched interval, above 1.

    Returns:
        A tensor of gates in [0, 1], of shape `shape` and of the dtype of
        `log_alpha`.

    Raises:
        ValueError: `temperature`, `gamma` or `zeta` out of range.
    """
    check_parameters(temperature, gamma, zeta)
    log_alpha = ops.convert_to_tensor(log_alpha)
    u = random.uniform(
        ops.shape(log_alpha) if shape is None else shape,
        minval=EPSILON,
        maxval=1.0 - EPSILON,
        dtype=log_alpha.dtype,
        seed=seed,
    )
    return _quantile(u, log_alpha, temperature, gamma, zeta)


def quantile(u, log_alpha, temperature=TEMPERATURE, gamma=GAMMA, zeta=ZETA):
    """The value that a gate stays below with probability `u`.

    The inverse of `cdf` wherever that has one; `sample` is this function of
    uniform noise.

    Args:
        u: probabilities in [0, 1]; values within 1e-6 of either end count as
            that far from it.
        log_alpha: a float tensor that broadcasts with `u`.
        temperature, gamma, zeta: as in `sample`.

    Returns:
        A tensor of values in [0, 1], of the broadcast shape.

    Raises:
        ValueError: `temperature`, `gamma` or `zeta` out of range.
    """
    check_parameters(temperature, gamma, zeta)
    log_alpha = ops.convert_to_tensor(log_alpha)
    u = ops.convert_to_tensor(u, dtype=log_alpha.dtype)
    u = ops.clip(u, EPSILON, 1.0 - EPSILON)
    return _quantile(u, log_alpha, temperature, gamma, zeta)


def _quantile(u, log_alpha, temperature, gamma, zeta):
    # 1 - u is exact in floating point for u >= 1/2, so one logarithm of the
    # quotient loses nothing against a difference of two.
    logistic = ops.log(u / (1.0 - u))
    return _clipped_concrete(logistic + log_alpha, temperature, gamma, zeta)


def _clipped_concrete(x, temperature, gamma, zeta):
    # Drawing gates is little work in many operations; the gradient by hand
    # halves those of the way back.
    @ops.custom_gradient
    def clipped(x):
        concrete = ops.sigmoid(x * (1.0 / temperature))
        stretched = concrete * (zeta - gamma) + gamma
        gates = ops.clip(stretched, 0.0, 1.0)

        def grad(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            slope = concrete * (1.0 - concrete)
            inside = ops.cast(gates == stretched, slope.dtype)
            return upstream * inside * slope * ((zeta - gamma) / temperature)

        return gates, grad

    return clipped(x)


def cdf(x, log_alpha, temperature=TEMPERATURE, gamma=GAMMA, zeta=ZETA):
    """The probability that a gate is at most `x` (equation 23).

    Args:
        x: a tensor of any values; outside [0, 1) the answer is 0 or 1.
        log_alpha: a float tensor that broadcasts with `x`.
        temperature, gamma, zeta: as in `sample`.

    Returns:
        A tensor of probabilities, of the broadcast shape.

    Raises:
        ValueError: `temperature`, `gamma` or `zeta` out of range.
    """
    check_parameters(temperature, gamma, zeta)
    log_alpha = ops.convert_to_tensor(log_alpha)
    x = ops.convert_to_tensor(x, dtype=log_alpha.dtype)
    # Clipping x first keeps the logarithms, and their gradients, finite where
    # the answer is 0 or 1 whatever they say.
    stretched = (ops.clip(x, 0.0, 1.0) - gamma) / (zeta - gamma)
    logit = ops.log(stretched / (1.0 - stretched))
    inside = ops.sigmoid(temperature * logit - log_alpha)
    zeros = ops.zeros_like(inside)
    return ops.where(x < 0.0, zeros, ops.where(x < 1.0, inside, zeros + 1.0))


def prob_open(log_alpha, temperature=TEMPERATURE, gamma=GAMMA, zeta=ZETA):
    """The probability that a sampled gate is not 0 (equation 12).

    Args:
        log_alpha: a float tensor of any shape.
        temperature, gamma, zeta: as in `sample`.

    Returns:
        A tensor of probabilities, of the shape of `log_alpha`.

    Raises:
        ValueError: `temperature`, `gamma` or `zeta` out of range.
    """
    check_parameters(temperature, gamma, zeta)
    return ops.sigmoid(log_alpha - temperature * math.log(-gamma / zeta))


def deterministic_gate(
    log_alpha, temperature=TEMPERATURE, gamma=GAMMA, zeta=ZETA
):
    """The gate used at test time (equation 13).

    It does not depend on the temperature. With the default interval it is
    exactly 0 for `log_alpha` up to -log 11 = -2.3979, where `prob_open` is
    still 0.31, and exactly 1 from +2.3979 on: the number of gates open at
    test time and the expected L0 norm differ.

    Args:
        log_alpha: a float tensor of any shape.
        temperature: not used; here so that all functions take the same.
        gamma, zeta: as in `sample`.

    Returns:
        A tensor of gates in [0, 1], of the shape of `log_alpha`.

    Raises:
        ValueError: `temperature`, `gamma` or `zeta` out of range.
    """
    check_parameters(temperature, gamma, zeta)
    stretched = ops.sigmoid(log_alpha) * (zeta - gamma) + gamma
    return ops.clip(stretched, 0.0, 1.0)
