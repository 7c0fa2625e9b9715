import keras

from l0keras.gates import HardConcreteGate
from l0keras.layers import GatedLayer

# And under which names their configurations and they themselves have layers.
_WRAPPERS = {
    keras.layers.TimeDistributed: {"layer": "layer"},
    keras.layers.Bidirectional: {
        "layer": "forward_layer",
        "backward_layer": "backward_layer",
    },
}


def bake(call):
    """The plain Keras layer that a called layer is at test time.

    Args:
        call: a node of a Keras model.

    Returns:
        The operation itself where it is no gate, or a gate that is told to
        sample at test time too. For a gated layer its plain layer, also
        inside `TimeDistributed` or `Bidirectional`, for a gate of its own a
        `Rescaling` by the test gates.
    """
    layer = call.operation
    if call.arguments.kwargs.get("training"):
        return layer
    if isinstance(layer, GatedLayer):
        return layer.bake()
    if type(layer) in _WRAPPERS:
        return _bake_inside(layer)
    if type(layer) is not HardConcreteGate:
        return layer
    shape = call.input_tensors[0].shape
    rank = len(shape)
    axes = (layer.axis,) if isinstance(layer.axis, int) else layer.axis
    axes = {axis % rank for axis in axes}
    # Of full rank, so that it means the same under every image data format.
    scale = layer.test_gates().reshape(
        [shape[axis] if axis in axes else 1 for axis in range(rank)]
    )
    rescaling = keras.layers.Rescaling(
        scale.tolist(), name=layer.name, dtype=layer.dtype_policy
    )
    rescaling.trainable = layer.trainable
    return rescaling


def _bake_inside(layer):
    """A wrapper around plain layers, or as it is where there are none."""
    config, weights = layer.get_config(), []
    gated = False
    for key, name in _WRAPPERS[type(layer)].items():
        inside = getattr(layer, name)
        if isinstance(inside, GatedLayer):
            gated = True
            inside = inside.bake()
            # A gated layer may be more than one layer at test time.
            if isinstance(inside, keras.Model):
                return layer
            config[key] = keras.saving.serialize_keras_object(inside)
        weights.extend(inside.get_weights())
    if not gated:
        return layer
    baked = type(layer).from_config(config)
    baked.build(layer.get_build_config()["input_shape"])
    baked.set_weights(weights)
    return baked
