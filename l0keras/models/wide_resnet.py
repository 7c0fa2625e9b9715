from collections.abc import Sequence

import keras

from l0keras.models.checks import blocks_of
from l0keras.models.checks import check_dropout
from l0keras.models.checks import check_droprate
from l0keras.models.checks import check_gates
from l0keras.models.checks import check_integer
from l0keras.models.conv_layers import ConvLayers

_layers = keras.layers


def wide_resnet(
    depth: int = 28,
    width: int = 10,
    dropout: float = 0.0,
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    gates: str | None = None,
    l0: float = 0.0,
    l2: float = 0.0,
    droprate_init: float = 0.3,
    sample_per: str = "batch",
    seed: int | None = None,
) -> keras.Model:
    """A wide residual network with pre-activation, WRN-28-10 by default.

    Three stages of (depth - 4) / 6 blocks with 16, 32 and 64 times `width`
    channels. A block is twice batch normalization, ReLU and a 3 x 3
    convolution. Where the shape changes, the shortcut is a 1 x 1 convolution
    that shares the block's first normalization and ReLU. With gates, each
    feature map of each block's first convolution has one.

    WRN-28-10 has 36.5 million weights and 5.25 billion multiply-accumulates
    for an image of 32 x 32 pixels.

    Source: Zagoruyko and Komodakis, BMVC 2016 (arXiv:1605.07146), section 2
    and table 1; gated by Louizos, Welling and Kingma, ICLR 2018
    (arXiv:1712.01312), section 4.2; the coupled decay as in the code of its
    authors, who stride in the second convolution of a block.

    Args:
        depth: the number of convolutions in a row, 6 n + 4.
        width: the factor k that all stages are widened by.
        dropout: the share of activations dropped between the convolutions of
            a block, in [0, 1).
        input_shape: height, width and channels of an image.
        classes: the number of classes.
        gates: `None` for plain Keras layers, or `"paper"`.
        l0: the price of one weight behind a gate: the paper's lambda divided
            by the number of training examples.
        l2: weight decay, 0.5 * l2 * w^2 for each trainable weight: kernels,
            the bias of the last layer, and the scales and offsets of batch
            normalization, as in the papers' codes (there 5e-4). Kernels
            with gates have l2 / (1 - droprate_init), coupled with them.
        droprate_init: the share of gates closed at the start, in (0, 1).
        sample_per: `"batch"` or `"example"`, see `HardConcreteGate`.
        seed: an integer of at least 0 that fixes the initial weights and the
            noise of gates and dropout.

    Returns:
        A functional model from images `(batch, *input_shape)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: an argument out of its range.
    """
    make = ConvLayers(input_shape, classes, l2, seed)
    blocks = blocks_of(depth, each=6, beyond=4)
    check_integer("width", width)
    check_dropout(dropout)
    check_gates(gates, l0)
    check_droprate(droprate_init)
    gate_arguments = None
    if gates:
        gate_arguments = {
            "l0": l0,
            "l2": l2 / (1 - droprate_init),
            "droprate_init": droprate_init,
            "sample_per": sample_per,
        }
    x = make.conv(make.image, 16, 3, "stem_conv")
    for stage in range(3):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            x = _block(
                make,
                x,
                16 * width * 2**stage,
                f"block{stage + 1}_{block + 1}",
                strides,
                dropout,
                gate_arguments,
            )
    x = make.norm_relu(x, "last")
    return make.model(x, f"wrn_{depth}_{width}")


def _block(make, x, filters, name, strides, dropout, gates):
    y = make.norm_relu(x, name, 1)
    if strides > 1 or x.shape[-1] != filters:
        x = make.conv(y, filters, 1, f"{name}_shortcut", strides)
    y = make.conv(y, filters, 3, f"{name}_conv1", strides, gates)
    y = make.norm_relu(y, name, 2)
    if dropout:
        y = _layers.Dropout(
            dropout, seed=make.next_seed(), name=f"{name}_dropout"
        )(y)
    y = make.conv(y, filters, 3, f"{name}_conv2")
    return _layers.Add(name=f"{name}_add")([x, y])
