"""The names of operations in a `MicroMutableOpResolver`."""

# Those that are not the words of the operation in capitals.
_OTHERS = {
    "BATCH_MATMUL": "BatchMatMul",
    "CUMSUM": "CumSum",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}


def resolver_name(op):
    """The function that adds an operation, such as `AddConv2D`.

    Args:
        op: the name of the operation in the schema, such as `CONV_2D`.
    """
    words = op.split("_")
    return "Add" + _OTHERS.get(op, "".join(word.title() for word in words))


def ops_of(content):
    """The operations of a LiteRT file, each once.

    Args:
        content: the bytes of the file.

    Returns:
        A list of names of the schema, in the order of the file.
    """
    from tflite_micro import runtime

    numbers = vars(runtime.schema_fb.BuiltinOperator)
    names = {
        number: name
        for name, number in numbers.items()
        if not name.startswith("_")
    }
    found = []
    for code in runtime.convert_bytearray_to_object(content).operatorCodes:
        number = runtime.get_builtin_code_from_operator_code(code)
        found.append(names[number])
    return list(dict.fromkeys(found))
