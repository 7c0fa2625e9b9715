"""Which operation of which layer LiteRT has no place for."""

import re

HINTS = {
    "TensorListReserve": "recurrent layers need a fixed number of steps, or a "
    "file with `batch_size=1`",
}


def explain(text, layers, graph_ops=()):
    """Says which operations of which layers an error is about.

    Args:
        text: what TensorFlow's converter, or LiteRT, said.
        layers: the names of the model's layers.
        graph_ops: the operations of a file that was written, see
            `tflite_ops`.

    Returns:
        A string such as `operation Erf of layer 'gelu'`, or an empty one if
        the text does not tell.
    """
    found = []
    for op, place in re.findall(r'fused\["(\w+):", "([^"@]+)', text):
        # These only call other functions.
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
        if op in HINTS:
            part += f" ({HINTS[op]})"
        if part not in parts:
            parts.append(part)
    return ", ".join(parts)


def layer_of(place, layers):
    """The layer whose name is in the path of an operation, the innermost."""
    for part in reversed(re.split(r"[/;]", place)):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in layers:
                return name
    return ""


def tflite_ops(interpreter):
    """Each operation of a file and the path of what it computes."""
    tensors = {
        details["index"]: details["name"]
        for details in interpreter.get_tensor_details()
    }
    return [
        (op["op_name"], tensors.get(op["outputs"][0], ""))
        for op in interpreter._get_ops_details()
    ]
