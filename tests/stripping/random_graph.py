"""Random functional graphs of random layers and gates, for property tests."""

import keras
import numpy as np
from keras import ops

from l0keras.gates import SharedGate
from tests.stripping.random_layers import Layers
from tests.stripping.random_layers import randomize
from tests.stripping.random_layers import ranked

WIDTHS = (1, 2, 3, 5)


class Own(keras.layers.Layer):
    """What strangers write: layers in a row, with ops around them.

    Args:
        parts: layers.
        residual: whether the input is added to what they make.
        factors: whether channels have factors, variables of this layer.
        activate: whether there is an activation function of its own.
    """

    def __init__(self, parts, residual, factors, activate):
        super().__init__()
        self.parts = parts
        self.residual = residual
        self.factors = None
        if factors:
            width = parts[-1].output.shape[-1]
            self.factors = self.add_weight(shape=(width,))
        self.activate = activate

    def call(self, inputs):
        x = inputs
        for part in self.parts:
            x = part(x)
        if self.factors is not None:
            x = x * self.factors
        if self.activate:
            x = x * ops.sigmoid(0.5 * x)
        return x + inputs if self.residual else x


class Blocks(Layers):
    """Draws blocks of several layers: each maps a tensor to a tensor."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # What further branches and outputs may start from.
        self.seen = []
        self.inputs = []
        self.heads = 0
        # Inside a nested model there are no new inputs.
        self.nested = False

    def model(self):
        rank = self.pick(0, 1, 2, 2, 2, 3)
        sizes = tuple(self.pick(3, 4, 5) for _ in range(rank))
        channels = self.pick(1, 2, 4)
        shape = (*sizes, channels) if self.axis == -1 else (channels, *sizes)
        if rank == 0:
            shape = (self.pick(3, 7),)
        x = self.new_input(shape)
        if rank:
            for _ in range(self.pick(1, 2, 3)):
                x = self.block(x, 2)
            if len(x.shape) > 2:
                x = self.on(x, self.end_of_space)
        for _ in range(self.pick(1, 2, 3)):
            x = self.block(x, 2)
        outputs = self.outputs(x)
        if self.generic:
            outputs = keras.tree.map_structure(self.head, outputs)
        return keras.Model(self.structured_inputs(), outputs)

    def new_input(self, shape):
        x = keras.Input(shape, name=f"in{len(self.inputs)}")
        self.inputs.append(x)
        self.seen.append(x)
        return x

    def structured_inputs(self):
        if len(self.inputs) == 1:
            return self.inputs[0]
        return self.pick(self.inputs, {x.name: x for x in self.inputs})

    def outputs(self, x):
        """One output or several, also some that are read further inside."""
        other = self.pick(*self.seen)
        third = self.pick(*self.seen)
        return self.pick(
            x,
            x,
            x,
            [x, other],
            [other, x, third],
            [x, x],
            {"main": x, "other": other},
            {"main": x, "others": [other, third]},
        )

    def head(self, x):
        """An output that tells all channels of a tensor apart."""
        self.heads += 1
        return keras.layers.Dense(2, name=f"head{self.heads}")(x)

    # === What blocks are made of ===

    def on(self, x, draw_layer, *args):
        """Applies a layer drawn for `x`."""
        self.x = x
        layer = draw_layer(*args)
        return layer(x)

    def channels_of(self, x):
        return x.shape[self.axis]

    def to_width(self, x, width):
        if self.channels_of(x) == width:
            return x
        return self.on(x, self.linear, width)

    def branch(self, x, depth, width=None):
        """A branch of the same positions, and of a width if asked for."""
        if depth > 0 and self.pick(0, 0, 1):
            y = self.keeping_block(x, depth - 1)
        else:
            y = self.on(x, self.keeping)
            if self.pick(0, 1):
                y = self.on(y, self.keeping)
        return y if width is None else self.to_width(y, width)

    def like(self, x):
        """Another tensor of the shape of `x`."""
        found = [
            y for y in self.seen if y.shape[1:] == x.shape[1:] and y is not x
        ]
        if found and self.pick(0, 1):
            return self.pick(*found)
        if not self.nested and len(self.inputs) < 3 and self.pick(0, 0, 1):
            return self.new_input(x.shape[1:])
        return self.branch(x, 0, self.channels_of(x))

    def merge(self, tensors):
        kinds = [
            keras.layers.Add(),
            keras.layers.Add(),
            keras.layers.Average(),
            keras.layers.Multiply(),
            lambda xs: sum(xs[1:], start=xs[0]),
        ]
        if not self.generic:
            kinds += [keras.layers.Maximum(), keras.layers.Minimum()]
        if len(tensors) == 2:
            kinds += [
                lambda xs: ops.add(xs[0], xs[1]),
                lambda xs: xs[0] * xs[1],
            ]
            if not self.generic:
                kinds += [
                    keras.layers.Subtract(),
                    lambda xs: xs[0] - xs[1],
                ]
        return self.pick(*kinds)(tensors)

    def concatenate(self, tensors):
        if self.pick(0, 1):
            return keras.layers.Concatenate(axis=self.axis)(tensors)
        return ops.concatenate(tensors, axis=self.axis)

    def per_channel(self, x, array):
        shape = [1] * len(x.shape)
        shape[self.axis] = -1
        return array.reshape(shape)

    # === Blocks ===

    def block(self, x, depth):
        kinds = [self.keeping_block] * 3
        kinds.append(self.layer)
        if len(x.shape) > 2 and self.axis == -1:
            kinds.append(self.positions)
        x = self.pick(*kinds)(x, depth)
        self.seen.append(x)
        return x

    def keeping_block(self, x, depth):
        kinds = [
            self.residual,
            self.residual,
            self.dense_block,
            self.concat_then_add,
            self.inception,
            self.op,
            self.op,
            self.nested_model,
            self.shared_gate,
            self.twice,
            self.squeeze_excite,
            self.opened,
        ]
        if not self.generic:
            kinds += [self.shared_layer, self.shared_layer]
            kinds += [self.product, self.own_way]
        return self.pick(*kinds)(x, depth)

    def opened(self, x, depth):
        """A layer of one's own, made of others."""
        parts, y = [], x
        for _ in range(self.pick(1, 2, 3)):
            self.x = y
            parts.append(self.keeping())
            y = parts[-1](y)
        residual = x.shape == y.shape and self.pick(0, 1)
        factors = self.axis == -1 and self.pick(0, 1)
        # Keras takes some products for sparse, and has no softmax of these.
        sparse = any(isinstance(part, keras.layers.Softmax) for part in parts)
        return Own(parts, residual, factors, not (self.generic or sparse))(x)

    def layer(self, x, depth):
        for _ in range(self.pick(1, 2)):
            spatial = len(x.shape) > 2
            x = self.on(x, self.spatial if spatial else self.flat)
        return x

    def residual(self, x, depth):
        count = self.pick(1, 1, 2)
        width = self.pick(None, None, *WIDTHS)
        if width is not None:
            x = self.to_width(x, width)
        width = self.channels_of(x)
        return self.merge(
            [x, *(self.branch(x, depth, width) for _ in range(count))]
        )

    def dense_block(self, x, depth):
        for _ in range(2):
            y = self.branch(x, 0, self.pick(*WIDTHS))
            x = self.concatenate([x, y])
        return x

    def concat_then_add(self, x, depth):
        widths = [self.pick(*WIDTHS), self.pick(*WIDTHS)]
        parts = [self.branch(x, 0, width) for width in widths]
        whole = self.branch(x, 0, sum(widths))
        y = self.merge([self.concatenate(parts), whole])
        return self.merge([y, self.like(y)]) if self.pick(0, 0, 1) else y

    def inception(self, x, depth):
        branches = [self.branch(x, depth) for _ in range(self.pick(2, 3))]
        if len(x.shape) == 4:
            pool = self.pick(
                keras.layers.MaxPooling2D, keras.layers.AveragePooling2D
            )
            branches[0] = pool(
                3, strides=1, padding="same", data_format=self.data_format
            )(x)
        return self.concatenate(branches)

    def squeeze_excite(self, x, depth):
        rank, width = len(x.shape) - 2, self.channels_of(x)
        if rank == 0:
            s = self.on(x, self.linear, width)
            return self.merge([x, ops.sigmoid(s)])
        pool = ranked("GlobalAveragePooling", rank)
        keep = self.pick(True, False)
        s = pool(keepdims=keep, data_format=self.data_format)(x)
        if keep:
            s = self.on(s, self.keeping)
            s = self.on(s, self.linear, width)
        else:
            # A ReLU may be 0 on all inputs by chance.
            kind = "elu" if self.generic else "relu"
            s = keras.layers.Dense(2, activation=kind)(s)
            s = keras.layers.Dense(width, activation="sigmoid")(s)
            shape = [1] * (rank + 1)
            shape[self.axis - (self.axis > 0)] = width
            s = keras.layers.Reshape(shape)(s)
        return self.pick(keras.layers.Multiply(), lambda xs: xs[0] * xs[1])(
            [x, s]
        )

    def product(self, x, depth):
        """Attention, or a product of vectors, out of operations."""
        rank, width = len(x.shape), self.pick(*WIDTHS)
        q, k = (self.branch(x, 0, width) for _ in range(2))
        v = self.branch(x, 0)
        if rank == 2:
            dot = keras.layers.Dot(1, normalize=self.pick(True, False))
            return self.concatenate([v, dot([q, k])])
        if self.axis == 1:
            return ops.einsum("bc...,bd...->bd...", q, v)
        scores = ops.softmax(
            self.pick(
                lambda: ops.einsum("...qc,...kc->...qk", q, k),
                lambda: ops.matmul(q, ops.swapaxes(k, -1, -2)),
            )()
        )
        return self.pick(
            lambda: ops.matmul(scores, v),
            lambda: ops.einsum("...qk,...kc->...qc", scores, v),
        )()

    def shared_layer(self, x, depth):
        """One layer called in several places, also one after the other."""
        self.x = x
        width = self.channels_of(x)
        layer = self.pick(
            lambda: self.linear(width),
            lambda: self.linear(self.pick(*WIDTHS)),
            self.normalize,
            self.thin,
            self.own_gate,
            self.odd,
        )()
        y = layer(x)
        if y.shape == x.shape and self.pick(0, 1):
            return layer(self.on(y, self.pick(self.own_gate, self.activate)))
        others = [layer(self.like(x)) for _ in range(self.pick(1, 2))]
        if self.pick(0, 1):
            others = [self.to_width(o, self.channels_of(y)) for o in others]
            return self.merge([y, *others])
        return self.concatenate([y, *others])

    def nested_model(self, x, depth):
        """A model within, called once or twice."""
        if depth < 1:
            return self.branch(x, 0)
        outer = self.seen, self.nested
        inner = self.inner_model(x, depth - 1)
        self.seen, self.nested = outer
        y = inner(x)
        if isinstance(y, list):
            return self.merge(y)
        if not self.generic and self.pick(0, 1):
            again = y if y.shape == x.shape else self.like(x)
            return self.merge([y, inner(again)])
        return y

    def inner_model(self, x, depth):
        self.nested = True
        inputs = keras.Input(x.shape[1:])
        self.seen = [inputs]
        if self.pick(0, 0, 1):
            layers = [keras.Input(x.shape[1:])]
            y = inputs
            for _ in range(self.pick(1, 2, 3)):
                self.x = y
                layers.append(self.keeping())
                y = layers[-1](y)
            return keras.Sequential(layers)
        y = self.keeping_block(inputs, depth)
        self.seen.append(y)
        if self.pick(0, 0, 1):
            y = [y, self.branch(y, 0, self.channels_of(y))]
        return keras.Model(inputs, y)

    def twice(self, x, depth):
        """A merge that reads one tensor in several places."""
        if self.pick(0, 1):
            return self.merge([x, x])
        y = self.concatenate([x, x])
        return self.merge([y, self.branch(x, 0, self.channels_of(y))])

    def shared_gate(self, x, depth):
        """One vector of gates for several tensors."""
        width = self.channels_of(x)
        per = self.pick("batch", "batch", "example")
        gates = SharedGate(width, sample_per=per)(self.seen[0])
        order = self.pick(
            np.arange(width), self.rng.permutation(width).tolist()
        )
        y = self.branch(x, 0, width)
        x = self.gated(x, gates, per)
        y = self.gated(y, ops.take(gates, order, axis=1), per)
        return self.pick(self.merge, self.concatenate)([x, y])

    def gated(self, x, gates, per):
        low = per == "batch" and self.axis == -1 and self.pick(0, 1)
        if len(x.shape) > 2 and not low:
            shape = [1] * len(x.shape)
            shape[0] = -1 if per == "example" else 1
            shape[self.axis] = gates.shape[1]
            gates = ops.reshape(gates, shape)
        return self.pick(ops.multiply, lambda x, gates: gates * x)(x, gates)

    def op(self, x, depth):
        width = self.channels_of(x)
        array = self.rng.normal(size=width).astype("float32")
        array *= self.rng.random(width) < self.pick(0.5, 1.0)
        array = self.per_channel(x, array)
        indices = self.rng.integers(-width, width, self.pick(1, width, 4))
        kinds = [
            lambda x: x * 2.0,
            lambda x: x + 1.0,
            lambda x: x / 2.0,
            lambda x: x * array,
            lambda x: ops.add(array, x),
            lambda x: ops.sigmoid(x),
            lambda x: ops.tanh(x),
            lambda x: ops.take(x, indices.tolist(), axis=self.axis),
            self.moved,
        ]
        if not self.generic:
            kinds += [
                lambda x: 1.0 - x,
                lambda x: -x,
                lambda x: ops.subtract(array, x),
                ops.relu,
                ops.square,
                lambda x: ops.clip(x, -0.5, 0.5),
                lambda x: ops.maximum(x, array),
                lambda x: x / (array + 5.0),
            ]
        x = self.pick(*kinds)(x)
        return self.on(x, self.keeping) if self.pick(0, 1) else x

    def own_way(self, x, depth):
        """An op that handles channels in a way of its own."""
        array = self.rng.normal(size=self.channels_of(x)).astype("float32")
        on = self.per_channel(x, array) > 0.0
        kinds = [
            lambda: ops.where(x > 0.1, x, 0.2 - x),
            lambda: ops.where(on, x, 0.5),
            lambda: ops.squeeze(x[:, None], 1),
            lambda: ops.max(ops.stack([x, self.like(x)], 1), axis=1),
            lambda: x * ops.mean(x, axis=self.axis, keepdims=True),
            lambda: x * ops.max(x, axis=self.axis, keepdims=True),
            lambda: ops.glu(self.to_width(x, self.pick(2, 4)), self.axis),
        ]
        if self.axis == -1:
            kinds += [
                lambda: ops.rms_normalization(x, array),
                lambda: ops.einsum("...c,...c->...c", x, self.like(x)),
            ]
        if len(x.shape) > 2:
            kinds.append(lambda: ops.cumsum(x, 1 + (self.axis == 1)))
        return self.pick(*kinds)()

    def moved(self, x):
        """Channels at another place for a while."""
        rank = len(x.shape)
        order = [0, *self.rng.permutation(np.arange(1, rank)).tolist()]
        back = [order.index(axis) for axis in range(rank)]
        y = ops.transpose(x, order)
        y = self.pick(ops.tanh, keras.layers.LeakyReLU(), lambda x: x * 2.0)(y)
        if self.pick(0, 1) and rank > 2:
            return keras.layers.Permute(back[1:])(y)
        return ops.transpose(y, back)

    def positions(self, x, depth):
        """What changes the places of positions, or how many there are."""
        *sizes, width = x.shape[1:]
        y = self.like(x)
        kinds = [
            lambda: keras.layers.Reshape((int(np.prod(sizes)), width))(x),
            lambda: ops.reshape(x, (-1, int(np.prod(sizes)), width)),
            lambda: ops.reshape(x, (-1, int(np.prod(sizes)) * width)),
            lambda: ops.reshape(x, (-1, *sizes[::-1], width)),
        ]
        if not self.generic:
            # Half of a channel may be constant then.
            kinds += [
                lambda: keras.layers.Concatenate(axis=1)([x, y]),
                lambda: ops.concatenate([x, y], axis=len(sizes)),
                lambda: ops.stack([x, y], axis=len(sizes))[:, 0],
                lambda: sum(ops.unstack(x, axis=1)),
                lambda: ops.take(x, [-1, 0, 0], axis=len(sizes)),
                lambda: self.sub_pixels(x),
            ]
        return self.pick(*kinds)()

    def sub_pixels(self, x):
        """Channels that become positions, or the other way round."""
        if len(x.shape) != 4:
            return x
        if not any(size % 2 for size in x.shape[1:3]) and self.pick(0, 1):
            return ops.space_to_depth(x, 2)
        return ops.depth_to_space(self.to_width(x, self.pick(4, 8)), 2)


def random_graph(seed, data_format="channels_last", generic=False):
    """Draws a functional model with random weights and gates.

    Args:
        seed: an integer. The same graph comes out whatever else ran before.
        data_format, generic: see `Layers`.

    Returns:
        The model and a numpy generator.
    """
    rng = np.random.default_rng(seed)
    model = Blocks(rng, data_format, generic).model()
    randomize(model, rng)
    return model, rng


def random_inputs(model, rng, batch=3, scale=1.0):
    """Numbers for all inputs of a model, nested as there."""
    return keras.tree.map_structure(
        lambda x: (scale * rng.normal(size=(batch, *x.shape[1:]))).astype(
            "float32"
        ),
        model.input,
    )


def outputs(model, x):
    """The outputs of a model, a flat list of numpy arrays."""
    return [
        ops.convert_to_numpy(tensor)
        for tensor in keras.tree.flatten(model(x, training=False))
    ]
