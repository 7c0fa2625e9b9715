from l0keras.export.litert.compare import random_inputs
from l0keras.export.litert.quantization import QUANTIZATIONS
from l0keras.export.litert.quantization import configure
from l0keras.export.litert.quantization import converter_settings
from l0keras.export.litert.quiet import quiet
from l0keras.export.litert.source import KerasSource


def convert_frozen(model, quantization=None):
    """Converts a small model many times as fast, for files to be timed alone.

    The variables are constants before the converter sees them, so nothing is
    saved and loaded. The file has no signature, and ranges of tensors are
    those of random inputs.

    Args:
        model: a built functional model without gates. It is not changed.
        quantization: as in `export_tflite`.

    Returns:
        The bytes of a LiteRT file.

    Raises:
        ValueError: weights are not finite.
        Exception: whatever the converter raises for what it does not support.
    """
    import tensorflow as tf

    origin = KerasSource(model)
    examples = None
    if QUANTIZATIONS[quantization].needs_data:
        size = origin.batch_size() or 1
        arrays = random_inputs(origin.inputs, 8 * size)
        examples = [
            [arrays[one.name][start : start + size] for one in origin.inputs]
            for start in range(0, 8 * size, size)
        ]
    settings = converter_settings(quantization, examples, False)

    def call(*inputs):
        inputs = list(inputs) if len(inputs) > 1 else inputs[0]
        return model(inputs, training=False)

    specs = [tf.TensorSpec(one.shape, one.dtype) for one in origin.inputs]
    with quiet(), origin.as_in_file(quantization):
        function = tf.function(call).get_concrete_function(*specs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
        configure(converter, settings)
        return converter.convert()
