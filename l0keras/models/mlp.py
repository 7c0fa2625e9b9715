from collections.abc import Sequence

import keras

from l0keras.models.layer_maker import LayerMaker


def mlp(
    input_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
    hidden: Sequence[int] = (300, 100),
    gates: str | None = None,
    l0: float | Sequence[float] = 0.0,
    l2: float | Sequence[float] = 0.0,
    droprate_init: float | Sequence[float] | None = None,
    sample_per: str = "batch",
    use_bias: bool = True,
    seed: int | None = None,
) -> keras.Model:
    """A multi-layer perceptron, 784-300-100 by default, plain or with gates.

    The input is flattened; hidden layers have ReLU, the last layer gives the
    logits. With gates, each input unit of each layer has one, so the first
    layer's gates choose the pixels.

    Source: Louizos, Welling and Kingma, ICLR 2018 (arXiv:1712.01312),
    section 4.1; initial values as in the authors' code: He-normal weights,
    zero biases.

    Args:
        input_shape: the shape of one example, of any rank.
        classes: the number of classes.
        hidden: the numbers of hidden units.
        gates: `None` for plain Keras layers, or `"paper"`.
        l0: the price of one weight behind a gate: the paper's lambda divided
            by the number of training examples; one number or one for each
            layer fc1, fc2, ...
        l2: weight decay, 0.5 * l2 * w^2 for each weight, coupled with the
            gates where there are any; one number or one for each layer.
        droprate_init: the share of gates closed at the start, in (0, 1); one
            number or one for each layer. `None` is the authors' 0.2 for the
            first layer and 0.5 for the others.
        sample_per: `"batch"` or `"example"`, see `HardConcreteGate`.
        use_bias: whether the layers have biases.
        seed: an integer that fixes the initial weights and the gates' noise.

    Returns:
        A built `keras.Sequential` from `(batch, *input_shape)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: an argument out of its range.
    """
    hidden = tuple(hidden)
    if droprate_init is None:
        droprate_init = (0.2,) + (0.5,) * len(hidden)
    count = len(hidden) + 1
    make = LayerMaker(count, gates, l0, l2, droprate_init, sample_per, seed)
    dense = [
        make.dense(units, "relu", f"fc{index}", use_bias)
        for index, units in enumerate(hidden, start=1)
    ]
    return keras.Sequential(
        [
            keras.Input(input_shape, name="image"),
            keras.layers.Flatten(name="flatten"),
            *dense,
            make.dense(classes, None, f"fc{count}", use_bias),
        ],
        name="mlp",
    )
