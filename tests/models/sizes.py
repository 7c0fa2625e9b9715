"""Sizes of networks, for comparison with published ones."""

from keras import ops


def count_trainable(model):
    """Published counts leave out what batch normalization averages."""
    return sum(int(ops.size(weight)) for weight in model.trainable_weights)


def total(convolutions):
    """Weights and multiply-accumulates of convolutions without bias.

    Args:
        convolutions: `(pixels along a side of the output, pixels along a side
            of the kernel, input channels, output channels)` of each.
    """
    weights = [(side, k * k * a * b) for side, k, a, b in convolutions]
    return (
        sum(count for _, count in weights),
        sum(side * side * count for side, count in weights),
    )
