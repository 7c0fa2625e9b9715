"""The ranges of activations with which tfmot begins."""

import numpy as np

from l0keras.export.bridge.tfmot import import_tfmot_module

# tfmot's moving averages move by this share of a difference with each batch.
_SHARE = 1e-3
# A range that changes by less has settled.
_CLOSE = 0.01
_MOST_PASSES = 100


def settle_ranges(model, inputs):
    """Sets ranges to those that activations have on examples.

    tfmot begins with [-6, 6] everywhere and moves by a thousandth with each
    batch. Until it comes near, larger activations are cut off, smaller ones
    have few steps, and the weights are trained towards what is left.

    Args:
        model: what tfmot's `quantize_apply` returns. Only its ranges change.
        inputs: examples of its inputs.
    """
    moving = _moving(model)
    known = {id(one) for pair in moving for one in pair}
    others = [one for one in model.variables if id(one) not in known]
    saved = [one.numpy() for one in others]
    for _ in range(_MOST_PASSES):
        before = [[float(one) for one in pair] for pair in moving]
        # What is behind a range that was too narrow shows in the next pass.
        model(inputs, training=True)
        settled = True
        for pair, old in zip(moving, before):
            new = [
                was + (float(one) - was) / _SHARE for one, was in zip(pair, old)
            ]
            width = max(new[1] - new[0], 1e-6)
            settled &= bool(
                np.max(np.abs(np.subtract(new, old))) < _CLOSE * width
            )
            for one, value in zip(pair, new):
                one.assign(value)
        if settled:
            break
    for one, value in zip(others, saved):
        one.assign(value)


def _moving(model):
    """The ranges that are moving averages, pairs of variables."""
    kind = import_tfmot_module("quantization.keras.quantizers")
    found = []

    def add(quantizer, variables):
        if isinstance(quantizer, kind.MovingAverageQuantizer):
            found.append((variables["min_var"], variables["max_var"]))

    for layer in model.layers:
        add(
            getattr(layer, "quantizer", None), vars(layer).get("quantizer_vars")
        )
        for activation in getattr(layer, "_quantize_activations", ()):
            for name in ("_pre_activation_vars", "_post_activation_vars"):
                if hasattr(activation, name):
                    add(activation.quantizer, getattr(activation, name))
        for quantizer in getattr(layer, "_output_quantizers", None) or ():
            add(quantizer, layer._output_quantizer_vars)
    return found
