"""Ranges of tensors, measured on examples, by which a converter quantizes."""

import numpy as np

from l0keras.export.litert.float_model import is_float
from l0keras.export.litert.float_model import operations
from l0keras.export.litert.float_model import read_model
from l0keras.export.litert.float_model import set_range
from l0keras.export.litert.float_model import to_bytes
from l0keras.export.litert.live_ranges import widen_dead_ranges
from l0keras.export.litert.mask_ranges import clip_masks
from l0keras.export.litert.run_tflite import open_tflite


def measure_ranges(converter, examples):
    """Has a converter quantize by ranges that are measured here.

    Its own are too wide where an operation writes its result in the place of
    what it reads: that one gets the range of the result too.

    Args:
        converter: a `tf.lite.TFLiteConverter` for integers. It gets another
            way to quantize.
        examples: a list of dictionaries of arrays by the names of the inputs.
    """
    import tensorflow as tf

    original = converter._quantize

    def quantize(content, *args, **kwargs):
        model = read_model(content)
        if len(model.subgraphs) > 1:
            # What happens in a loop can be seen from inside only.
            converter._experimental_calibrate_only = True
            model = read_model(original(content, *args, **kwargs))
            converter._experimental_calibrate_only = False
        else:
            _measure(model, content, examples)
        clip_masks(model)
        widen_dead_ranges(model)
        # The ranges are in the model now and stay without further examples.
        converter.representative_dataset = tf.lite.RepresentativeDataset(
            lambda: iter(())
        )
        return original(to_bytes(model), *args, **kwargs)

    converter._quantize = quantize


def _measure(model, content, examples):
    """Writes into a model which numbers its tensors had."""
    (graph,) = model.subgraphs
    made = [tensor for _, _, some in operations(graph) for tensor in some]
    wanted = {id(tensor) for tensor in made if is_float(tensor)}
    numbers = [
        number
        for number, tensor in enumerate(graph.tensors)
        if id(tensor) in wanted or (number in graph.inputs and is_float(tensor))
    ]
    interpreter = open_tflite(content, delegates=False, preserve=True)
    run = interpreter.get_signature_runner()
    ranges = {}
    for example in examples:
        run(**example)
        for number in numbers:
            array = interpreter.get_tensor(number)
            if array.size:
                low, high = ranges.get(number, (np.inf, -np.inf))
                ranges[number] = (
                    min(low, float(array.min())),
                    max(high, float(array.max())),
                )
    for number, found in ranges.items():
        set_range(graph.tensors[number], *found)
