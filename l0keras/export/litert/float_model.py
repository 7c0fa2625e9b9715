"""A model of the converter as an object, with ranges of its tensors."""

import copy

import numpy as np


def read_model(content):
    """A LiteRT model of bytes as an object that can be changed."""
    from tensorflow.lite.tools import flatbuffer_utils

    return flatbuffer_utils.convert_bytearray_to_object(bytearray(content))


def to_bytes(model):
    """The bytes of a model of `read_model`."""
    from tensorflow.lite.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def operations(graph):
    """The operations of a graph.

    Yields:
        Triples of an operation, its inputs and its outputs, lists of tensors.
        Some have none: variables are made from nothing.
    """
    for op in graph.operators:
        yield (
            op,
            *(
                [
                    graph.tensors[i]
                    for i in ([] if some is None else some)
                    if i >= 0
                ]
                for some in (op.inputs, op.outputs)
            ),
        )


def kind(op, model):
    """The number of an operation in `schema.BuiltinOperator`."""
    code = model.operatorCodes[op.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def kinds(*names):
    """The numbers of operations by their names."""
    from tensorflow.lite.python import schema_py_generated as schema

    return [getattr(schema.BuiltinOperator, name) for name in names]


def range_of(tensor):
    """The least and the largest number that were measured, or `None`."""
    found = tensor.quantization
    if found is None or found.min is None or found.max is None:
        return None
    if len(found.min) != 1 or len(found.max) != 1:
        return None
    return float(found.min[0]), float(found.max[0])


def set_range(tensor, low, high):
    from tensorflow.lite.python import schema_py_generated as schema

    if tensor.quantization is None:
        tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.min = [low]
    tensor.quantization.max = [high]


def is_float(tensor):
    from tensorflow.lite.python import schema_py_generated as schema

    return tensor.type == schema.TensorType.FLOAT32


def constant(tensor, model):
    """The numbers of a float constant, a flat array, or `None`."""
    data = model.buffers[tensor.buffer].data
    if data is None or not is_float(tensor):
        return None
    return np.asarray(data, "uint8").view("float32")


def replace_constant(op, place, graph, model, array):
    """Gives an operation another constant, of the same shape; others keep it.

    Args:
        op: the operation.
        place: which of its inputs, an integer.
        graph: the graph of the operation.
        model: the model.
        array: the new numbers, a flat array.
    """
    tensor = copy.copy(graph.tensors[op.inputs[place]])
    buffer = copy.copy(model.buffers[tensor.buffer])
    buffer.data = np.ascontiguousarray(array, "float32").view("uint8")
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)
    op.inputs = np.array(op.inputs)
    op.inputs[place] = len(graph.tensors)
    graph.tensors.append(tensor)
