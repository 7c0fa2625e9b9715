import keras

from l0keras.graph.rules import elementwise
from l0keras.graph.rules import linear
from l0keras.graph.rules import positions
from l0keras.graph.rules.rule import Barrier

BARRIER = Barrier()

_NAMES = {
    linear.Dense(): "Dense",
    linear.Convolution(): "Conv1D Conv2D Conv3D",
    linear.Depthwise(): "DepthwiseConv1D DepthwiseConv2D",
    elementwise.BatchNormalization(): "BatchNormalization",
    elementwise.Identity(): (
        "ActivityRegularization AlphaDropout Dropout GaussianDropout "
        "GaussianNoise Identity SpatialDropout1D SpatialDropout2D "
        "SpatialDropout3D"
    ),
    elementwise.Activation(): "Activation",
    elementwise.ReLU(): "ReLU",
    elementwise.LeakyReLU(): "LeakyReLU",
    elementwise.Elementwise(): "ELU",
    elementwise.PReLU(): "PReLU",
    elementwise.Rescaling(): "Rescaling",
    positions.Positions(): (
        "AdaptiveAveragePooling1D AdaptiveAveragePooling2D "
        "AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D "
        "AdaptiveMaxPooling3D AveragePooling1D AveragePooling2D "
        "AveragePooling3D Cropping1D Cropping2D Cropping3D MaxPooling1D "
        "MaxPooling2D MaxPooling3D"
    ),
    positions.Upsampling(): "UpSampling1D UpSampling2D UpSampling3D",
    positions.ZeroPadding(): "ZeroPadding1D ZeroPadding2D ZeroPadding3D",
    positions.GlobalPooling(): (
        "GlobalAveragePooling1D GlobalAveragePooling2D "
        "GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D "
        "GlobalMaxPooling3D"
    ),
    positions.Flatten(): "Flatten",
}
# By exact type: a subclass may do anything.
_RULES = {
    getattr(keras.layers, name): rule
    for rule, names in _NAMES.items()
    for name in names.split()
}


def rule_of(node):
    """The rule for a node and, where it is a barrier, the reason.

    Args:
        node: a `Node` whose inputs know their channel axes.

    Returns:
        A rule and a string, or a rule and `None`.
    """
    kind = type(node.layer)
    rule = _RULES.get(kind)
    if rule is None:
        return BARRIER, f"no rule for {kind.__name__}"
    if len(node.operation.nodes) > 1:
        return BARRIER, "shared: called more than once"
    if node.training:
        return BARRIER, "called in training mode"
    if node.arguments_beyond_input:
        return BARRIER, "called with further arguments"
    if len(node.inputs) != 1 or len(node.outputs) != 1:
        return BARRIER, "does not map one tensor to one"
    if not node.input.size:
        return BARRIER, "its number of channels is not fixed"
    reason = rule.refuses(node)
    return (BARRIER, reason) if reason else (rule, None)
