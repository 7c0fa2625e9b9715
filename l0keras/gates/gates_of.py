import keras

from l0keras.gates.hard_concrete_gate import HardConcreteGate


def gates_of(model):
    """Lists the gates of a model, in the order of its layers.

    Args:
        model: a `keras.Model`, or any `keras.Layer`.

    Returns:
        A list of `HardConcreteGate` layers, each once: those that stand in
        the model by themselves and those inside gated layers and nested
        models. Empty for a model without gates.

    Raises:
        ValueError: `model` is no Keras layer or model.
    """
    if not isinstance(model, keras.Layer):
        raise ValueError(
            "Argument `model` must be a Keras model or layer. "
            f"Received: model={model!r}"
        )
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, HardConcreteGate)
    ]
