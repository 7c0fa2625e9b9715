"""Work for the process of `worker`: files are written, run and timed."""

import numpy as np

from l0keras.export.litert.float_model import read_model
from l0keras.export.litert.float_model import to_bytes
from l0keras.export.litert.measure_latency import time_files
from l0keras.export.litert.measured_ranges import measure_ranges
from l0keras.export.litert.quantization import configure
from l0keras.export.litert.quantization import converter_settings
from l0keras.export.litert.run_tflite import open_tflite
from l0keras.export.litert.run_tflite import run_signature
from l0keras.export.litert.unsupported import float_ops
from l0keras.export.litert.unsupported import tflite_ops


def convert(folder, path, names, quantization, examples, sparse_encoding):
    """Converts a saved model.

    Args:
        folder: the path of the saved model.
        path: the path of the file to write.
        names: the names of inputs and outputs by those that they have in the
            saved model, where these are others.
        quantization, examples, sparse_encoding: see `converter_settings`.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    configure(
        converter, converter_settings(quantization, examples, sparse_encoding)
    )
    if examples is not None:
        measure_ranges(converter, examples)
    content = converter.convert()
    if names:
        content = _renamed(content, names)
    with open(path, "wb") as file:
        file.write(content)


def _renamed(content, names):
    model = read_model(content)
    for signature in model.signatureDefs:
        for tensor in (*signature.inputs, *signature.outputs):
            name = tensor.name.decode()
            tensor.name = names.get(name, name).encode()
    return to_bytes(model)


def run(path, groups, batch_size):
    """Runs a file.

    Args:
        path: the path of the file.
        groups: a list of dictionaries of arrays by the names of the inputs.
        batch_size: as for `run_tflite`.

    Returns:
        A list of dictionaries of arrays by the names of the outputs.
    """
    interpreter = open_tflite(path)
    try:
        return [
            run_signature(interpreter, inputs, batch_size) for inputs in groups
        ]
    except RuntimeError as error:
        # Without delegates the error names the operation.
        plain = open_tflite(path, delegates=False)
        for inputs in groups:
            run_signature(plain, inputs, batch_size)
        raise RuntimeError(
            f"a delegate fails, LiteRT's own kernels do not: {error}"
        ) from error


def run_steps(path, groups, batch_size, states, sequential):
    """Runs a file for one step over whole sequences.

    Args:
        path: the path of the file.
        groups: a list of dictionaries of sequences by the names of the inputs.
        batch_size: as for `run_tflite`.
        states: the names of the states, a list.
        sequential: the names of the outputs that have a number for each step.

    Returns:
        A list of dictionaries of the outputs for whole sequences.
    """
    interpreter = open_tflite(path)
    details = interpreter.get_signature_runner().get_input_details()
    shapes = {name: details[name]["shape_signature"][1:] for name in states}
    found = []
    for group in groups:
        examples, length = next(iter(group.values())).shape[:2]
        after = {
            name: np.zeros((examples, *shape), "float32")
            for name, shape in shapes.items()
        }
        steps = []
        for time in range(length):
            inputs = {n: a[:, time : time + 1] for n, a in group.items()}
            steps.append(
                run_signature(interpreter, {**inputs, **after}, batch_size)
            )
            after = {name: steps[-1].pop(name) for name in states}
        whole = steps[-1]
        for name in sequential:
            whole[name] = np.concatenate([step[name] for step in steps], 1)
        found.append(whole)
    return found


def latencies(path, threads, shapes):
    """Times a file, see `measure_latency`.

    Args:
        path: the path of the file.
        threads: a list of numbers of threads.
        shapes: the shape of one example by the names of the inputs.

    Returns:
        A dictionary of microseconds by number of threads.
    """
    found = {}
    for count in threads:
        (found[count],) = time_files([path], count, sample_shape=shapes)
    return found


def operations(path):
    """The operations of a file, see `tflite_ops`."""
    return tflite_ops(open_tflite(path, delegates=False))


def operations_in_floats(path):
    """The operations of a file that compute in floats, see `float_ops`."""
    return float_ops(open_tflite(path, delegates=False))
