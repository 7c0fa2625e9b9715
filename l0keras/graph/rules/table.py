import keras
from keras.src.activations.activations import ReLU as ActivationReLU
from keras.src.applications.convnext import LayerScale
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from keras.src.ops import core
from keras.src.ops import image
from keras.src.ops import math
from keras.src.ops import nn
from keras.src.ops import numpy as numpy_ops

from l0keras import activations
from l0keras.gates import SharedGate
from l0keras.graph.rules import attention
from l0keras.graph.rules import bidirectional
from l0keras.graph.rules import convolution
from l0keras.graph.rules import einsum
from l0keras.graph.rules import elementwise
from l0keras.graph.rules import embedding
from l0keras.graph.rules import gates
from l0keras.graph.rules import keras_hub
from l0keras.graph.rules import linear
from l0keras.graph.rules import merge
from l0keras.graph.rules import move
from l0keras.graph.rules import normalization
from l0keras.graph.rules import pooling
from l0keras.graph.rules import product
from l0keras.graph.rules import recurrent
from l0keras.graph.rules import reduce
from l0keras.graph.rules import reshape
from l0keras.graph.rules import select
from l0keras.graph.rules import single_head
from l0keras.graph.rules import time_distributed
from l0keras.graph.rules import whole
from l0keras.graph.rules.rule import Barrier

BARRIER = Barrier()

_LAYERS = {
    linear.Dense(): "Dense",
    convolution.Convolution(): "Conv1D Conv2D Conv3D",
    convolution.Depthwise(): "DepthwiseConv1D DepthwiseConv2D",
    convolution.Separable(): "SeparableConv1D SeparableConv2D",
    convolution.Transposed(): (
        "Conv1DTranspose Conv2DTranspose Conv3DTranspose"
    ),
    elementwise.BatchNormalization(): "BatchNormalization",
    normalization.GroupNormalization(): "GroupNormalization",
    normalization.RMSNormalization(): "RMSNormalization",
    normalization.UnitNormalization(): "UnitNormalization",
    normalization.Normalization(): "Normalization",
    normalization.LayerNormalization(): "LayerNormalization",
    normalization.EachChannel(): "Softmax",
    elementwise.Identity(): (
        "ActivityRegularization AlphaDropout Dropout GaussianDropout "
        "GaussianNoise Identity SpatialDropout1D SpatialDropout2D "
        "SpatialDropout3D"
    ),
    elementwise.Augmentation(): (
        "CutMix MixUp RandomBrightness RandomContrast RandomCrop "
        "RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur "
        "RandomInvert RandomPerspective RandomPosterization RandomRotation "
        "RandomSharpness RandomShear RandomTranslation RandomZoom Solarization"
    ),
    elementwise.Activation(): "Activation",
    elementwise.ReLU(): "ReLU",
    elementwise.Homogeneous(): "LeakyReLU",
    elementwise.Elementwise(): "ELU",
    elementwise.PReLU(): "PReLU",
    elementwise.Rescaling(): "Rescaling",
    pooling.Positions(): (
        "AdaptiveAveragePooling1D AdaptiveAveragePooling2D "
        "AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D "
        "AdaptiveMaxPooling3D AveragePooling1D AveragePooling2D "
        "AveragePooling3D Cropping1D Cropping2D Cropping3D MaxPooling1D "
        "MaxPooling2D MaxPooling3D"
    ),
    pooling.Upsampling(): "UpSampling1D UpSampling2D UpSampling3D",
    pooling.ZeroPadding(): "ZeroPadding1D ZeroPadding2D ZeroPadding3D",
    pooling.GlobalAveragePooling(): (
        "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D"
    ),
    pooling.GlobalMaxPooling(): (
        "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D"
    ),
    pooling.CenterCrop(): "CenterCrop",
    pooling.Resize(): "Resizing",
    pooling.Flatten(): "Flatten",
    reshape.Reshape(): "Reshape",
    reshape.Permute(): "Permute",
    reshape.RepeatVector(): "RepeatVector",
    merge.Add(): "Add",
    merge.Average(): "Average",
    merge.Subtract(): "Subtract",
    merge.Multiply(): "Multiply",
    merge.Maximum(): "Maximum",
    merge.Minimum(): "Minimum",
    merge.Concatenate(): "Concatenate",
    product.Product(product.dot): "Dot",
    whole.Whole("takes what it reads for categories"): (
        "CategoryEncoding Discretization HashedCrossing Hashing IntegerLookup "
        "StringLookup TextVectorization"
    ),
    embedding.Embedding(): "Embedding",
    embedding.Reversible(): "ReversibleEmbedding",
    einsum.EinsumDense(): "EinsumDense",
    recurrent.Recurrent(): (
        "ConvLSTM1D ConvLSTM2D ConvLSTM3D GRU LSTM RNN SimpleRNN"
    ),
    bidirectional.Bidirectional(): "Bidirectional",
    single_head.Attention(): "Attention",
    single_head.AdditiveAttention(): "AdditiveAttention",
    attention.MultiHead(): "MultiHeadAttention",
    attention.GroupQuery(): "GroupQueryAttention",
}
_NUMPY_OPS = {
    merge.Add(): "Add",
    merge.Subtract(): "Subtract",
    merge.Multiply(): "Multiply",
    merge.Divide(): "Divide TrueDivide",
    merge.Maximum(): "Maximum",
    merge.Minimum(): "Minimum",
    merge.Power(): "Power",
    merge.Binary(): (
        "Arctan2 DivideNoNan Equal FloorDivide Fmod Greater GreaterEqual "
        "Hypot Less LessEqual Logaddexp LogicalAnd LogicalOr LogicalXor Mod "
        "NotEqual"
    ),
    merge.Where(): "Where",
    merge.Stack(): "Stack",
    merge.Concatenate(): "Concatenate",
    product.Product(product.matmul): "Matmul",
    product.Product(product.einsum): "Einsum",
    product.OfBatches(): "Dot Inner Outer Tensordot Vdot",
    reduce.Reduce(): "Median",
    reduce.Maximum(): "Amax Max",
    reduce.Minimum(): "Amin Min",
    reduce.Sum(): "Sum",
    reduce.Mean(): "Mean",
    reduce.Product(): "Prod",
    reduce.Deviation(): "Std",
    reduce.Variance(): "Var",
    move.Flip(): "Flip",
    move.Roll(): "Roll",
    move.Cumulative(): "Cumprod",
    move.CumulativeSum(): "Cumsum",
    move.Repeat(): "Repeat",
    move.Tile(): "Tile",
    move.BroadcastTo(): "BroadcastTo",
    move.Pad(): "Pad",
    select.GetItem(): "GetItem",
    reshape.Reshape(): "Reshape",
    reshape.Permute(): "Moveaxis Swapaxes Transpose",
    reshape.ExpandDims(): "ExpandDims",
    reshape.Squeeze(): "Squeeze",
    select.Take(): "Take",
    select.TakeAlongAxis(): "TakeAlongAxis",
    elementwise.Homogeneous(): "Absolute Abs Negative Copy",
    elementwise.Clip(): "Clip",
    elementwise.Elementwise(): activations.NUMPY_OPS,
}
_NN_OPS = {
    normalization.UnitNormalization(): "Normalize",
    normalization.LayerNormalization(): "LayerNorm",
    normalization.EachChannel(): "LogSoftmax Softmax",
    normalization.RMSNorm(): "RMSNorm",
    reshape.DepthToSpace(): "DepthToSpace",
    reshape.Glu(): "Glu",
    reshape.SpaceToDepth(): "SpaceToDepth",
    pooling.Positions(): (
        "AdaptiveAveragePool AdaptiveMaxPool AveragePool MaxPool"
    ),
    elementwise.Homogeneous(): "LeakyRelu Relu",
    elementwise.Elementwise(): activations.NN_OPS,
}
# By exact type: a subclass may do anything. Classes of packages that need not
# be installed stand here with their names.
RULES = {
    getattr(place, name): rule
    for place, table in (
        (keras.layers, _LAYERS),
        (numpy_ops, _NUMPY_OPS),
        (nn, _NN_OPS),
    )
    for rule, names in table.items()
    for name in names.split()
}
RULES.update(
    {
        SharedGate: gates.SharedGate(),
        CustomScaleLayer: merge.ScaledAdd(),
        LayerScale: elementwise.LayerScale(),
        math.Erf: elementwise.Elementwise(),
        math.Rsqrt: elementwise.Elementwise(),
        math.Logsumexp: reduce.LogSumExp(),
        ActivationReLU: elementwise.ReLU(),
        core.StopGradient: elementwise.Homogeneous(),
        core.Cast: elementwise.Cast(),
        core.SaturateCast: elementwise.Cast(),
        image.ExtractPatches: reshape.Patches(),
        image.Resize: pooling.Resize(),
        **keras_hub.RULES,
    }
)


def rule_for(kind):
    """The rule for a type of layer or op, `None` if there is none."""
    return RULES.get(kind, RULES.get(f"{kind.__module__}.{kind.__qualname__}"))


def rule_of(node):
    """The rule for a node and, where it is a barrier, the reason.

    Args:
        node: a `Node` whose inputs know their channel axes.

    Returns:
        A rule and a string, or a rule and `None`.
    """
    kind = type(node.layer)
    rule = rule_for(kind)
    if rule is None:
        reason = f"no rule for {kind.__name__}"
        if node.operation.closed:
            reason += f", and it cannot be opened: {node.operation.closed}"
        return BARRIER, reason
    if node.training and not rule.ignores_training:
        return BARRIER, "called in training mode"
    if node.arguments_beyond_input and not rule.with_arguments:
        return BARRIER, "called with further arguments"
    alone = len(node.outputs) == 1 or rule.several_outputs
    if rule.inputs not in (None, len(node.inputs)) or not alone:
        return BARRIER, "does not map one tensor to one"
    inputs = [node.inputs[i] for i in rule.channel_inputs(node)]
    if not all(value.size for value in inputs):
        return BARRIER, "its number of channels is not fixed"
    if len(node.operation.nodes) > 1 and not rule.per_call:
        if not all(value.selectable for value in inputs):
            return BARRIER, "shared, and its input carries a mask or is sparse"
    for candidate in (rule, *rule.alternatives):
        reason = candidate.refuses(node)
        if not reason:
            return candidate, None
    return BARRIER, reason


# It asks for the rule of the layer inside.
RULES[keras.layers.TimeDistributed] = time_distributed.TimeDistributed(rule_of)
