"""Networks on graphs."""

import keras
import numpy as np
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry

NODES = 10


def dense_graph(rng, examples):
    """Features of nodes and a normalized adjacency matrix each."""
    adjacency = rng.random((examples, NODES, NODES)) < 0.3
    adjacency = adjacency | np.eye(NODES, dtype=bool)
    degrees = adjacency.sum(-1, keepdims=True)
    features = rng.standard_normal((examples, NODES, 8))
    return [
        features.astype("float32"),
        (adjacency / degrees).astype("float32"),
    ]


class GraphConvolution(layers.Layer):
    def __init__(self, units, activation=None):
        super().__init__()
        self.units = units
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        features, _ = input_shape
        self.kernel = self.add_weight(
            shape=(features[-1], self.units), initializer="glorot_uniform"
        )
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, inputs):
        x, adjacency = inputs
        x = ops.matmul(adjacency, ops.matmul(x, self.kernel))
        return self.activation(x + self.bias)


@entry(
    "graph convolution",
    area="graphs",
    inputs=dense_graph,
    limit=0.5,
    inherent="its layers are few, and the first and the last keep a half",
)
def graph_convolution():
    features = keras.Input((NODES, 8))
    adjacency = keras.Input((NODES, NODES))
    x = GraphConvolution(24, "relu")([features, adjacency])
    x = layers.Dropout(0.5)(x)
    x = GraphConvolution(24, "relu")([x, adjacency])
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dense(24, activation="relu")(x)
    outputs = layers.Dense(4, activation="softmax")(x)
    return keras.Model([features, adjacency], outputs)


@entry("graph convolution, of layers", area="graphs", inputs=dense_graph)
def graph_of_layers():
    features = keras.Input((NODES, 8))
    adjacency = keras.Input((NODES, NODES))
    x = features
    for units in (24, 24):
        x = layers.Dense(units)(x)
        x = layers.Dot(axes=(2, 1))([adjacency, x])
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.GlobalMaxPooling1D()(x)
    outputs = layers.Dense(4, activation="softmax")(x)
    return keras.Model([features, adjacency], outputs)


class GraphAttention(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[0][-1], self.units),
            initializer="glorot_uniform",
            name="kernel",
        )
        self.attention = self.add_weight(
            shape=(2 * self.units, 1),
            initializer="glorot_uniform",
            name="kernel_attention",
        )
        self.built = True

    def call(self, inputs):
        states, adjacency = inputs
        x = ops.matmul(states, self.kernel)
        left = ops.matmul(x, self.attention[: self.units])
        right = ops.matmul(x, self.attention[self.units :])
        scores = left + ops.transpose(right, (0, 2, 1))
        scores = ops.leaky_relu(scores)
        scores = ops.where(adjacency > 0, scores, -1e9)
        return ops.matmul(ops.softmax(scores, axis=-1), x)


class MultiHeadGraphAttention(layers.Layer):
    def __init__(self, units, num_heads=2, merge_type="concat", **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.merge_type = merge_type
        self.attention_layers = [
            GraphAttention(units) for _ in range(num_heads)
        ]

    def call(self, inputs):
        outputs = [layer(inputs) for layer in self.attention_layers]
        if self.merge_type == "concat":
            outputs = ops.concatenate(outputs, axis=-1)
        else:
            outputs = ops.mean(ops.stack(outputs, axis=-1), axis=-1)
        return ops.relu(outputs)


@entry(
    "graph attention",
    area="graphs",
    inputs=dense_graph,
    known="layers that take parts of a weight are not opened",
)
def graph_attention():
    features = keras.Input((NODES, 8))
    adjacency = keras.Input((NODES, NODES))
    x = layers.Dense(24, activation="relu")(features)
    for _ in range(2):
        y = MultiHeadGraphAttention(12, 2)([x, adjacency])
        x = layers.Add()([x, y])
    outputs = layers.Dense(5)(x)
    return keras.Model([features, adjacency], outputs)


EDGES = 18


def molecules(rng, examples):
    """Disconnected graphs as one: `examples` counts the edges' blocks."""
    nodes = 4 * examples
    edges = EDGES * examples
    return [
        rng.standard_normal((nodes, 6)).astype("float32"),
        rng.standard_normal((edges, 3)).astype("float32"),
        rng.integers(0, nodes, (edges, 2)).astype("int32"),
    ]


class EdgeNetwork(layers.Layer):
    def build(self, input_shape):
        self.atom_dim = input_shape[0][-1]
        self.bond_dim = input_shape[1][-1]
        self.kernel = self.add_weight(
            shape=(self.bond_dim, self.atom_dim * self.atom_dim),
            initializer="glorot_uniform",
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.atom_dim * self.atom_dim,),
            initializer="zeros",
            name="bias",
        )

    def call(self, inputs):
        atoms, bonds, pairs = inputs
        bonds = ops.matmul(bonds, self.kernel) + self.bias
        bonds = ops.reshape(bonds, (-1, self.atom_dim, self.atom_dim))
        neighbors = ops.take(atoms, pairs[:, 1], axis=0)
        neighbors = ops.expand_dims(neighbors, axis=-1)
        transformed = ops.squeeze(ops.matmul(bonds, neighbors), axis=-1)
        return ops.segment_sum(
            transformed, pairs[:, 0], num_segments=ops.shape(atoms)[0]
        )


class MessagePassing(layers.Layer):
    def __init__(self, units, steps=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.steps = steps

    def build(self, input_shape):
        self.message_step = EdgeNetwork()
        self.update_step = layers.GRUCell(self.units)
        self.message_step.build(
            [(None, self.units), input_shape[1], input_shape[2]]
        )
        self.update_step.build((None, self.units))

    def call(self, inputs):
        atoms, bonds, pairs = inputs
        padding = self.units - atoms.shape[-1]
        updated = ops.pad(atoms, [[0, 0], [0, padding]])
        for _ in range(self.steps):
            messages = self.message_step([updated, bonds, pairs])
            updated, _ = self.update_step(messages, [updated])
        return updated


@entry(
    "message passing",
    area="graphs",
    inputs=molecules,
    known="recurrent cells that a layer calls have no rule",
)
def message_passing():
    atoms = layers.Input((6,), dtype="float32", name="atom_features")
    bonds = layers.Input((3,), dtype="float32", name="bond_features")
    pairs = layers.Input((2,), dtype="int32", name="pair_indices")
    x = MessagePassing(16)([atoms, bonds, pairs])
    x = layers.Dense(32, activation="relu")(x)
    x = layers.Dense(1, activation="sigmoid")(x)
    return keras.Model([atoms, bonds, pairs], x)


def ffn(hidden_units, rate, name=None):
    parts = []
    for units in hidden_units:
        parts.append(layers.BatchNormalization())
        parts.append(layers.Dropout(rate))
        parts.append(layers.Dense(units, activation=keras.activations.gelu))
    return keras.Sequential(parts, name=name)


class NodeConvolution(layers.Layer):
    def __init__(self, hidden_units, rate=0.2, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ffn_prepare = ffn(hidden_units, rate)
        self.update_fn = ffn(hidden_units, rate)

    def call(self, inputs):
        nodes, edges, weights = inputs
        messages = self.ffn_prepare(ops.take(nodes, edges[1], axis=0))
        messages = messages * ops.expand_dims(weights, -1)
        gathered = ops.segment_sum(
            messages, edges[0], num_segments=nodes.shape[0]
        )
        x = ops.concatenate([nodes, gathered], axis=1)
        x = self.update_fn(x)
        return x / ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True) + 1e-6)


class NodeClassifier(keras.Model):
    """The whole graph is part of the model; inputs say which nodes."""

    def __init__(self, classes, hidden_units, nodes, *args, **kwargs):
        super().__init__(*args, **kwargs)
        rng = np.random.default_rng(0)
        self.features = ops.array(rng.standard_normal((nodes, 8)), "float32")
        self.edges = ops.array(rng.integers(0, nodes, (2, 40)), "int32")
        self.edge_weights = ops.ones((40,)) / 40
        self.preprocess = ffn(hidden_units, 0.2, name="preprocess")
        self.conv1 = NodeConvolution(hidden_units, name="graph_conv1")
        self.conv2 = NodeConvolution(hidden_units, name="graph_conv2")
        self.postprocess = ffn(hidden_units, 0.2, name="postprocess")
        self.compute_logits = layers.Dense(classes, name="logits")

    def call(self, index):
        x = self.preprocess(self.features)
        x = self.conv1((x, self.edges, self.edge_weights)) + x
        x = self.conv2((x, self.edges, self.edge_weights)) + x
        x = self.postprocess(x)
        return self.compute_logits(ops.take(x, index, axis=0))


@entry(
    "nodes of one graph, subclassed",
    area="graphs",
    inputs=lambda rng, examples: rng.integers(0, 12, (examples,)),
    known="layers that are called on constants are not opened",
)
def node_classifier():
    model = NodeClassifier(4, [16, 16], 12)
    model(ops.array([1, 10, 3]))
    return model
