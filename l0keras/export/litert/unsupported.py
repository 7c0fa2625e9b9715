"""Operations that LiteRT does not support, and their layers."""

import re

import numpy as np


def explain(text, layers, graph_ops=()):
    """Finds the operations in an error of the converter or of LiteRT.

    Args:
        text: the text of the error.
        layers: the names of the model's layers.
        graph_ops: the operations of the model's file, see `tflite_ops`.

    Returns:
        A string such as `operation Erf of layer 'gelu'`, or an empty string
        if the text names no operation.
    """
    found = []
    for op, place in re.findall(r'fused\["(\w+):", "([^"@]+)', text):
        # Calls of functions stand for the operations in them.
        if "PartitionedCall" not in op:
            found.append((op, place))
    number = re.search(r"[Nn]ode number (\d+) \((\w+)\)", text)
    if number and int(number[1]) < len(graph_ops):
        found.append(graph_ops[int(number[1])])
    kind = re.search(r"not yet supported for op: '(\w+)'", text)
    if kind:
        found += [entry for entry in graph_ops if entry[0] == kind[1]]
        found = found or [(kind[1], "")]
    parts = []
    for op, place in found:
        layer = layer_of(place, layers)
        part = f"operation {op}" + (f" of layer '{layer}'" if layer else "")
        if part not in parts:
            parts.append(part)
    return ", ".join(parts)


def layer_of(place, layers):
    """The innermost layer whose name is in the path of an operation."""
    return next(iter(layers_of(place, layers)), "")


def layers_of(place, layers):
    """The layers whose names are in the path of an operation, inside first."""
    # Of operations that became one, the first gave the result.
    for path in place.split(";"):
        found = []
        for part in reversed(path.split("/")):
            for name in (part, re.sub(r"_\d+$", "", part)):
                if name in layers:
                    found.append(name)
                    break
        if found:
            return found
    return []


def tflite_ops(interpreter):
    """The operations of a file: pairs of a name and the path of the output."""
    tensors = {
        details["index"]: details["name"]
        for details in interpreter.get_tensor_details()
    }
    return [
        (op["op_name"], tensors.get(next(iter(op["outputs"]), None), ""))
        for op in interpreter._get_ops_details()
    ]


# They turn integers into floats, and back.
_CONVERSIONS = ("DEQUANTIZE", "QUANTIZE")


def float_ops(interpreter):
    """The operations of a file that compute in floats, see `tflite_ops`."""
    floats = {
        details["index"]
        for details in interpreter.get_tensor_details()
        if np.issubdtype(details["dtype"], np.floating)
    }
    return [
        found
        for found, op in zip(
            tflite_ops(interpreter), interpreter._get_ops_details()
        )
        if found[0] not in _CONVERSIONS
        and not floats.isdisjoint([*op["inputs"], *op["outputs"]])
    ]
