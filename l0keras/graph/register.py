import keras

from l0keras.graph.rules import table
from l0keras.graph.rules.rule import Rule


def register_channel_rule(
    layer_class: type[keras.Layer], rule: Rule | type[keras.Layer]
) -> None:
    """Teaches `strip` and `sparsify` a layer type of your own.

    A layer without a rule is a barrier: `l0keras.strip` keeps the layer and
    all channels that it reads. The result is exact, only not small.

    A rule holds for the class itself, not for classes derived from it.
    Registering a class again replaces its rule. A layer that shrinks is made
    anew by its constructor, from its `get_config()` with the changes of
    `rule.shrink`; a layer that does not shrink is copied.

    Args:
        layer_class: a class derived from `keras.Layer`, not one of Keras.
        rule: an instance of a class derived from `l0keras.graph.Rule`, or a
            layer class of Keras that treats channels, weights and arguments
            in the same way, such as `keras.layers.LeakyReLU` for an
            activation f(zx) = z f(x), z >= 0. For one that maps each number
            on its own it is `keras.layers.ELU`.

    Raises:
        ValueError: `layer_class` is no layer class, is one that has a rule
            already because it comes with Keras or this library, or `rule` is
            neither a `Rule` nor a layer class with a rule.

    Example:

    A layer that multiplies each channel by a weight. It reads the value of
    its variable, which no graph shows, so that it cannot be opened:

    >>> import keras, l0keras
    >>> import numpy as np
    >>> class Scale(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.scale = self.add_weight(
    ...             name="scale", shape=(input_shape[-1],), initializer="ones"
    ...         )
    ...     def call(self, inputs):
    ...         return inputs * self.scale.value

    In a model where 3 of 5 units are closed it is a barrier at first:

    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(5),
    ...     Scale(),
    ...     keras.layers.Dense(2),
    ... ])
    >>> kernel, bias = model.layers[0].get_weights()
    >>> model.layers[0].set_weights([kernel * [1, 0, 0, 1, 0], bias])
    >>> l0keras.strip(model).count_params()
    42

    The defaults of a rule suit a layer that maps each channel on its own.
    Channel c of the output is a constant if that of the input is:

    >>> class ScaleRule(l0keras.graph.Rule):
    ...     shrinks_with_input = True
    ...     def constants(self, node):
    ...         return node.input.constants * node.params["scale"]
    ...     def shrink(self, node):
    ...         return {}, {"scale": node.params["scale"][node.got()]}
    ...     def weights(self, node):
    ...         return [(1, [(-1, np.arange(node.output.size))])]
    >>> l0keras.register_channel_rule(Scale, ScaleRule())
    >>> small = l0keras.strip(model)
    >>> small.count_params()
    18
    >>> x = np.ones((1, 4))
    >>> np.allclose(model.predict_on_batch(x), small.predict_on_batch(x))
    True
    """
    if not isinstance(layer_class, type) or not issubclass(
        layer_class, keras.Layer
    ):
        raise ValueError(
            "Argument `layer_class` must be a class derived from "
            f"`keras.Layer`. Received: layer_class={layer_class!r}"
        )
    if layer_class.__module__.split(".")[0] in ("keras", "l0keras"):
        raise ValueError(
            "Argument `layer_class` must be a class of your own; the rules of "
            "Keras's and this library's layers stay. "
            f"Received: layer_class={layer_class!r}"
        )
    if isinstance(rule, Rule):
        table.RULES[layer_class] = rule
        return
    if not isinstance(rule, type) or rule not in table.RULES:
        raise ValueError(
            "Argument `rule` must be an instance of `l0keras.graph.Rule` or "
            f"a layer class that has a rule. Received: rule={rule!r}"
        )
    table.RULES[layer_class] = table.RULES[rule]
