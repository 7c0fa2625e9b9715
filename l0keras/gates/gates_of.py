from l0keras.gates.hard_concrete_gate import HardConcreteGate


def gates_of(model):
    """Lists the gates of a model, in the order of its layers.

    Args:
        model: a `keras.Model`, or any `keras.Layer`.

    Returns:
        A list of `HardConcreteGate` layers, each once: those that stand in
        the model by themselves and those inside gated layers and nested
        models. Empty for a model without gates.
    """
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, HardConcreteGate)
    ]
