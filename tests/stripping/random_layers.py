"""Random layers with random weights and gates, for property tests."""

import keras
import numpy as np

import l0keras
from l0keras import layers as gated
from tests.stripping.flip import Flip

ACTIVATIONS = [
    "relu",
    None,
    "sigmoid",
    "tanh",
    "elu",
    "leaky_relu",
    "relu6",
    "softplus",
    "gelu",
    "hard_sigmoid",
    "softmax",
]
INJECTIVE = [None, "sigmoid", "tanh", "elu", "leaky_relu", "softplus"]
CONVS = {
    1: (gated.L0Conv1D, keras.layers.Conv1D),
    2: (gated.L0Conv2D, keras.layers.Conv2D),
    3: (gated.L0Conv3D, keras.layers.Conv3D),
}


def pick(rng, *options):
    return options[rng.integers(len(options))]


def ranked(name, rank):
    return getattr(keras.layers, f"{name}{rank}D")


class Layers:
    """Draws layers for the tensor `x`; whoever derives applies them.

    Args:
        rng: a numpy generator.
        data_format: of all layers that have one.
        generic: whether to leave out what makes it hard to say, from outside,
            whether a unit is needed: activations with flat parts, groups,
            barriers, weights that only ever see padding, differences, which
            may be of a tensor and itself. All that is left is injective, or
            mixes by weights.
    """

    def __init__(self, rng, data_format="channels_last", generic=False):
        self.rng = rng
        self.data_format = data_format
        self.axis = -1 if data_format == "channels_last" else 1
        self.generic = generic
        self.x = None

    @property
    def rank(self):
        return len(self.x.shape) - 2

    @property
    def sizes(self):
        shape = self.x.shape[1:]
        return shape[:-1] if self.axis == -1 else shape[1:]

    @property
    def channels(self):
        return self.x.shape[self.axis]

    def pick(self, *options):
        return pick(self.rng, *options)

    def spatial(self):
        """A layer that may change positions as well as channels."""
        return self.pick(
            self.conv,
            self.conv,
            self.conv,
            self.depthwise,
            self.normalize,
            self.activate,
            self.pool,
            self.pad,
            self.own_gate,
            self.odd,
        )()

    def flat(self):
        return self.pick(
            self.dense,
            self.dense,
            self.dense,
            self.normalize,
            self.activate,
            self.own_gate,
            self.odd,
        )()

    def keeping(self):
        """A layer that keeps the positions."""
        return self.pick(
            self.linear,
            self.linear,
            self.linear,
            self.thin,
            self.normalize,
            self.activate,
            self.own_gate,
            self.odd,
        )()

    def linear(self, width=None):
        """A layer with a kernel, of any width, that keeps the positions."""
        if self.rank < 1 or self.axis == -1 and self.pick(0, 0, 0, 1):
            return self.dense(width)
        moves = {
            "kernel_size": self.window(1, 2, 3),
            "padding": "same",
            "data_format": self.data_format,
        }
        return self.conv(width, moves)

    def window(self, *sizes, dilation=1):
        """The size of a kernel that can take several positions."""
        size = self.pick(*sizes)
        fits = (size - 1) * dilation < min(self.sizes)
        return size if fits or not self.generic else 1

    def thin(self):
        if self.rank != 2:
            return self.normalize()
        moves = {"kernel_size": self.window(1, 3), "padding": "same"}
        return self.depthwise({**moves, "data_format": self.data_format})

    def gates(self):
        return {"granularity": self.pick(None, "input", "output", "weight")}

    def moves(self):
        """Strides, dilation and padding that fit any size."""
        strides, dilation = self.pick((1, 1), (1, 1), (2, 1), (1, 2))
        smallest = min(self.sizes)
        kernel = self.window(1, 2, 3, dilation=dilation)
        fits = (kernel - 1) * dilation < smallest
        return {
            "kernel_size": kernel,
            "strides": strides,
            "dilation_rate": dilation,
            "padding": self.pick("valid", "same") if fits else "same",
            "data_format": self.data_format,
        }

    def activations(self):
        return INJECTIVE if self.generic else ["relu", *ACTIVATIONS]

    def options(self):
        return {
            "use_bias": self.pick(True, True, False),
            "activation": self.pick(*self.activations()),
        }

    def conv(self, width=None, moves=None):
        l0_class, plain_class = CONVS[self.rank]
        causal = moves is None
        moves = moves or self.moves()
        if causal and self.rank == 1 and self.axis == -1 and self.pick(0, 0, 1):
            moves["padding"] = "causal"
        groups = self.pick(1, 1, 1, 2, self.channels)
        if self.channels % groups or keras.backend.backend() == "tensorflow":
            # The CPU kernels of TensorFlow know grouped convolutions in two
            # dimensions only, and not with dilation.
            simple = self.rank == 2 and moves.get("dilation_rate", 1) == 1
            groups = groups if simple and self.channels % groups == 0 else 1
        if self.generic or (width or 0) % groups:
            groups = 1
        arguments = {
            **moves,
            **self.options(),
            "filters": width or groups * self.pick(1, 2, 3, 5),
            "groups": groups,
        }
        if self.pick(True, True, False):
            return l0_class(**arguments, **self.gates())
        return plain_class(**arguments)

    def depthwise(self, moves=None):
        if self.rank != 2:
            return self.conv()
        arguments = {
            **(moves or self.moves()),
            **self.options(),
            "depth_multiplier": 1 if self.generic else self.pick(1, 2),
        }
        if self.pick(True, False):
            return gated.L0DepthwiseConv2D(**arguments, **self.gates())
        return keras.layers.DepthwiseConv2D(**arguments)

    def dense(self, width=None):
        units = width or self.pick(1, 3, 6)
        arguments = {**self.options(), "units": units}
        if self.pick(True, True, False):
            return gated.L0Dense(**arguments, **self.gates())
        return keras.layers.Dense(**arguments)

    def normalize(self):
        return keras.layers.BatchNormalization(
            axis=self.axis,
            center=self.pick(True, True, False),
            scale=self.pick(True, True, False),
        )

    def activate(self):
        if self.generic:
            return self.pick(
                keras.layers.LeakyReLU(),
                keras.layers.ELU(),
                *(keras.layers.Activation(name) for name in INJECTIVE),
            )
        return self.pick(
            keras.layers.ReLU(),
            keras.layers.ReLU(max_value=1.0, threshold=0.1),
            keras.layers.LeakyReLU(),
            keras.layers.ELU(),
            keras.layers.PReLU(),
            keras.layers.PReLU(
                shared_axes=[
                    axis
                    for axis in range(1, len(self.x.shape))
                    if axis != self.axis % len(self.x.shape)
                ]
            ),
            *(keras.layers.Activation(name) for name in ACTIVATIONS),
        )

    def pool(self):
        rank = self.rank
        return self.pick(
            ranked("MaxPooling", rank)(
                2, padding="same", data_format=self.data_format
            ),
            ranked("AveragePooling", rank)(
                2,
                strides=self.pick(1, 2),
                padding="same",
                data_format=self.data_format,
            ),
        )

    def pad(self):
        # In one dimension these know no data format.
        options = {"data_format": self.data_format} if self.rank > 1 else {}
        if self.rank == 1 and self.axis == 1:
            return self.pool()
        layers = [ranked("UpSampling", self.rank)(2, **options)]
        if not self.generic:
            layers.append(ranked("ZeroPadding", self.rank)(1, **options))
            if self.rank == 2:
                layers.append(keras.layers.Resizing(3, 5, **options))
        if min(self.sizes) > 2:
            layers.append(ranked("Cropping", self.rank)(1, **options))
        return self.pick(*layers)

    def own_gate(self):
        axes = [self.axis]
        if len(self.x.shape) == 4 and not self.generic:
            axes.append((1, 2, 3))
        return l0keras.HardConcreteGate(axis=self.pick(*axes))

    def odd(self):
        layers = [
            keras.layers.Dropout(0.5),
            keras.layers.Rescaling(0.5, 0.25),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Identity(),
        ]
        if self.axis == -1:
            if not self.generic:
                layers += [
                    keras.layers.Softmax(),
                    keras.layers.LayerNormalization(),
                    keras.layers.RMSNormalization(),
                    Flip(),
                ]
            layers += [
                keras.layers.Rescaling([0.5] * self.channels, 0.25),
                self.dense(),
            ]
        return self.pick(*layers)

    def end_of_space(self):
        rank, data_format = self.rank, self.data_format
        average = ranked("GlobalAveragePooling", rank)
        other = "channels_last" if self.axis == 1 else "channels_first"
        return self.pick(
            keras.layers.Flatten(data_format=data_format),
            keras.layers.Flatten(),
            average(data_format=data_format),
            average(data_format=data_format),
            ranked("GlobalMaxPooling", rank)(
                data_format=data_format, keepdims=True
            ),
            keras.layers.Identity(),
            *([] if self.generic else [average(data_format=other)]),
        )


def randomize(model, rng):
    """Moves all weights, closes gates and zeroes parts of plain kernels."""
    for layer in model._flatten_layers():
        if isinstance(layer, l0keras.HardConcreteGate):
            shut = pick(rng, 0.0, 0.3, 0.3, 0.3, 0.7, 0.7, 1.0)
            close(layer, rng, shut)
            continue
        for weight in layer.weights:
            shape = tuple(weight.shape)
            values = rng.normal(size=shape)
            if weight.name == "kernel":
                values /= np.sqrt(np.prod(shape[:-1]))
                plain = not isinstance(layer, gated.GatedLayer)
                if plain and not layer.name.startswith("head"):
                    zero_units(values, rng, pick(rng, 0.0, 0.0, 0.3, 0.5))
            elif weight.name in ("gamma", "beta") and pick(rng, 0, 0, 1):
                values *= rng.random(shape) < 0.5
            elif "variance" in weight.name:
                values = rng.uniform(0.5, 2.0, shape)
            elif weight.name == "log_alpha":
                continue
            weight.assign(values)


def close(gate, rng, share):
    """Closes a share of a gate; the others get values in (0, 1]."""
    shape = gate.log_alpha.shape
    open_values = rng.uniform(-2.0, 4.0, shape)
    shut = rng.random(shape) < share
    gate.log_alpha.assign(np.where(shut, -5.0, open_values))


def zero_units(kernel, rng, share):
    """Sets whole filters and whole input channels to zero, in place."""
    kernel[..., rng.random(kernel.shape[-1]) < share] = 0.0
    kernel[..., rng.random(kernel.shape[-2]) < share / 2, :] = 0.0
