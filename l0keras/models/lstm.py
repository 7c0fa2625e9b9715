from collections.abc import Sequence

import keras
import numpy as np

from l0keras.models.checks import check_dropout
from l0keras.models.checks import check_integer
from l0keras.models.checks import check_l2


def lstm(
    input_shape: Sequence[int | None] = (28, 28),
    classes: int = 10,
    units: int = 128,
    return_sequences: bool = False,
    dropout: float = 0.0,
    l2: float = 0.0,
    seed: int | None = None,
) -> keras.Model:
    """A recurrent network: one LSTM layer and the logits.

    It reads an image row by row with the default arguments, and classifies it
    after the last one. With `return_sequences` it classifies each step, as
    frames of speech are: `lstm((None, 39), classes=39, units=200,
    return_sequences=True)`.

    Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018
    (arXiv:1711.05136), section 4, where an LSTM classifies the frames of
    TIMIT; the number of units there is not certain.

    Args:
        input_shape: steps and features, or height, width and 1 channel of an
            image, whose rows are then the steps. The number of steps may be
            `None`.
        classes: the number of classes.
        units: the number of LSTM cells.
        return_sequences: whether each step has logits, or only the last one.
        dropout: the share of inputs of the last layer that are dropped while
            training.
        l2: weight decay, 0.5 * l2 * w^2 for each weight; biases have none.
        seed: an integer that fixes the initial weights.

    Returns:
        A built `keras.Sequential` from `(batch, *input_shape)` to logits
        `(batch, classes)`, or `(batch, steps, classes)`. It has
        4 * units * (features + units + 1) + (units + 1) * classes parameters.

    Raises:
        ValueError: an argument out of its range.
    """
    shape = tuple(input_shape)
    is_image = len(shape) == 3 and shape[2] == 1 and shape[0] is not None
    if not is_image and len(shape) != 2:
        raise ValueError(
            "Argument `input_shape` must be (steps, features), or (height, "
            f"width, 1). Received: input_shape={input_shape}"
        )
    if shape[0] is not None:
        check_integer("input_shape[0]", shape[0])
    check_integer("input_shape[1]", shape[1])
    check_integer("classes", classes)
    check_integer("units", units)
    check_dropout(dropout)
    check_l2(l2)
    decay = keras.regularizers.L2(0.5 * l2) if l2 else None
    seeds = [None] * 3
    if seed is not None:
        check_integer("seed", seed, at_least=0)
        state = np.random.SeedSequence(seed).generate_state(3)
        seeds = [int(word) for word in state >> 1]
    layers = [keras.Input(shape, name="image" if is_image else "sequence")]
    if is_image:
        layers.append(keras.layers.Reshape(shape[:2], name="rows"))
    layers.append(
        keras.layers.LSTM(
            units,
            return_sequences=return_sequences,
            kernel_initializer=keras.initializers.GlorotUniform(seeds[0]),
            recurrent_initializer=keras.initializers.Orthogonal(seed=seeds[1]),
            kernel_regularizer=decay,
            recurrent_regularizer=decay,
            name="lstm",
        )
    )
    if dropout:
        layers.append(keras.layers.Dropout(dropout, name="dropout"))
    layers.append(
        keras.layers.Dense(
            classes,
            kernel_initializer=keras.initializers.GlorotUniform(seeds[2]),
            kernel_regularizer=decay,
            name="logits",
        )
    )
    return keras.Sequential(layers, name="lstm_network")
