import keras
import numpy as np
from keras import ops

from l0keras import activations
from l0keras.graph.rules.rule import OtherAxis
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.rule import along
from l0keras.graph.rules.rule import channel_axis
from l0keras.graph.rules.rule import per_channel


class Identity(Rule):
    """Layers that do nothing at test time, such as `Dropout`. They stay."""

    per_call = True
    homogeneous = True

    def constants(self, node):
        return node.input.constants


class Augmentation(Identity):
    """Layers that change images in training, whatever channels these have.

    Keras notes that they are called in training mode, which is their default;
    a model hands them its own.
    """

    ignores_training = True
    # Gates stand behind it: in training it may change what is 0.
    homogeneous = False


class Elementwise(Rule):
    """Layers and ops without weights that map each number on its own."""

    per_call = True

    def constants(self, node):
        constants = node.input.constants
        known = ~np.isnan(constants)
        filled = along(node.input, np.where(known, constants, 0.0))
        outputs = node.layer.call(ops.convert_to_tensor(filled, "float32"))
        outputs = ops.convert_to_numpy(outputs).reshape(-1)
        # Such as the logarithm of 0: better not known than infinite.
        known &= np.isfinite(outputs)
        return np.where(known, outputs, np.nan)


class Clip(Elementwise):
    """`ops.clip` to limits that are the same for all channels."""

    def refuses(self, node):
        if np.ndim(node.layer.x_min) + np.ndim(node.layer.x_max):
            return "clips by arrays"
        return None


class Homogeneous(Elementwise):
    homogeneous = True


class Cast(Elementwise):
    """`ops.cast`: to integers a constant may be rounded to either side."""

    def constants(self, node):
        constants = super().constants(node)
        if "float" in node.output.tensor.dtype:
            return constants
        return np.where(node.input.constants == 0, constants, np.nan)

    def is_homogeneous(self, node):
        return "float" in node.output.tensor.dtype


class Activation(Elementwise):
    """`Activation`, if its function is known to be elementwise."""

    def refuses(self, node):
        activation = node.layer.activation
        if not activations.is_elementwise(activation):
            name = getattr(activation, "__name__", str(activation))
            return f"activation '{name}' may mix channels"
        return None

    def is_homogeneous(self, node):
        return activations.is_homogeneous(node.layer.activation)


class ReLU(Elementwise):
    def is_homogeneous(self, node):
        return node.layer.max_value is None and node.layer.threshold == 0


class PReLU(Rule):
    """`PReLU`: a slope for each channel, or each number, of the input."""

    shrinks_with_input = True
    homogeneous = True

    def constants(self, node):
        inputs = along(node.input, node.input.constants)
        slopes = np.where(inputs < 0, node.params["alpha"][None], 1.0)
        return per_channel(node.output, inputs * slopes)

    def shrink(self, node):
        alpha = node.params["alpha"]
        if alpha.shape[node.input.axis - 1] == node.input.size:
            alpha = np.take(alpha, node.got(), axis=node.input.axis - 1)
        return {}, {"alpha": alpha}

    def weights(self, node):
        alpha = node.params["alpha"]
        if alpha.shape[node.input.axis - 1] != node.input.size:
            return [(alpha.size, [])]
        channels = np.arange(node.output.size)
        return [(alpha.size // node.output.size, [(-1, channels)])]


class Rescaling(Rule):
    """`Rescaling` by numbers or by arrays that broadcast over the input."""

    def refuses(self, node):
        arrays = np.ndim(node.layer.scale) + np.ndim(node.layer.offset)
        first = keras.config.image_data_format() == "channels_first"
        if arrays and first and not node.operation.gate:
            return "rescales by arrays under image data format channels_first"
        return None

    def _full(self, node, name):
        """An argument as an array of the input's rank."""
        array = np.asarray(getattr(node.layer, name), "float64")
        missing = node.input.rank - array.ndim
        return array.reshape((1,) * missing + array.shape)

    def channel_scale(self, node):
        """One factor a channel, `None` where positions differ."""
        scale = self._full(node, "scale")
        along_channels = scale.shape[node.input.axis] == node.input.size
        if not along_channels or scale.size != node.input.size:
            return None
        if np.any(self._full(node, "offset")):
            return None
        return scale.reshape(-1)

    def constants(self, node):
        constants = along(node.input, node.input.constants)
        outputs = constants * self._full(node, "scale")
        outputs = outputs + self._full(node, "offset")
        # Zero times anything, not NaN times zero: a closed gate's channel.
        shut = np.broadcast_to(self._full(node, "scale") == 0, outputs.shape)
        offset = np.broadcast_to(self._full(node, "offset"), outputs.shape)
        return per_channel(node.output, np.where(shut, offset, outputs))

    def shrink(self, node):
        config = {}
        axis = node.input.axis
        for name in ("scale", "offset"):
            if np.ndim(getattr(node.layer, name)) == 0:
                continue
            array = self._full(node, name)
            if array.shape[axis] > 1:
                array = np.take(array, node.got(), axis=axis)
            config[name] = array.tolist()
        return config, {}

    def call(self, node, layer, args, kwargs):
        scale = self.channel_scale(node)
        if node.operation.gate and scale is not None:
            same = node.input.tensor.dtype == node.output.tensor.dtype
            if same and np.all(scale[node.got()] == 1):
                # Gates of which nothing but open ones is left.
                return args[0]
        return layer(*args, **kwargs)


class BatchNormalization(Rule):
    """`BatchNormalization` with its moving statistics."""

    shrinks_with_input = True

    def refuses(self, node):
        if node.layer.axis % node.input.rank != node.input.axis:
            return OtherAxis("normalizes another axis than the channels")
        return None

    def _affine(self, node):
        """Slope and offset of each channel, float64."""
        params = node.params
        variance = params["moving_variance"].astype("float64")
        slope = 1.0 / np.sqrt(variance + node.layer.epsilon)
        slope = slope * params.get("gamma", 1.0)
        return slope, params.get("beta", 0.0) - slope * params["moving_mean"]

    def constants(self, node):
        slope, offset = self._affine(node)
        inputs = np.where(slope == 0, 0.0, node.input.constants)
        return inputs * slope + offset

    def shrink(self, node):
        got = node.got()
        params = {name: array[got] for name, array in node.params.items()}
        config = {"scale": "gamma" in params, "center": "beta" in params}
        return config, params

    def weights(self, node):
        channels = np.arange(node.output.size)
        return [(len(node.params), [(-1, channels)])]

    def takes_output_scale(self, node):
        return True

    def scale_output(self, node, scale):
        params = node.params
        params["gamma"] = params.get("gamma", 1.0) * scale
        if "beta" in params:
            params["beta"] = params["beta"] * scale

    def takes_input_scale(self, node):
        return True

    def scale_input(self, node, scale):
        slope, offset = self._affine(node)
        params = node.params
        shift = slope * params["moving_mean"] * (scale - 1.0)
        params["gamma"] = params.get("gamma", 1.0) * scale
        params["beta"] = params.get("beta", 0.0) + shift


class LayerScale(Rule):
    """Layers such as `LayerScale` of Keras's ConvNeXt: a factor a channel.

    Args:
        width: the constructor's argument for the number of channels.
    """

    shrinks_with_input = True
    homogeneous = True

    def __init__(self, width="projection_dim"):
        self._width = width

    def refuses(self, node):
        if node.input.axis != channel_axis(node.layer, node.input):
            return OtherAxis("scales another axis than that of the channels")
        return None

    def _factors(self, node):
        (factors,) = node.params.values()
        return factors

    def constants(self, node):
        factors = self._factors(node)
        return np.where(factors == 0, 0.0, node.input.constants * factors)

    def shrink(self, node):
        params = {k: array[node.got()] for k, array in node.params.items()}
        return {self._width: len(node.got())}, params

    def weights(self, node):
        return [(1, [(-1, np.arange(node.output.size))])]

    def takes_output_scale(self, node):
        return True

    def scale_output(self, node, scale):
        for name, array in node.params.items():
            node.params[name] = array * scale

    takes_input_scale = takes_output_scale
    scale_input = scale_output
