"""Networks on tables, and recommenders."""

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry
from trainers.studies.corpus.reasons import NORMALIZED

EMBEDDINGS = (
    "most parameters are rows of embeddings, of which only columns can be cut"
)


def euclidean_distance(vectors):
    x, y = vectors
    total = ops.sum(ops.square(x - y), axis=1, keepdims=True)
    return ops.sqrt(ops.maximum(total, keras.backend.epsilon()))


@entry("Siamese network", area="tables")
def siamese():
    input = keras.layers.Input((16, 16, 1))
    x = keras.layers.BatchNormalization()(input)
    x = keras.layers.Conv2D(8, (5, 5), activation="tanh")(x)
    x = keras.layers.AveragePooling2D(pool_size=(2, 2))(x)
    x = keras.layers.Conv2D(16, (3, 3), activation="tanh")(x)
    x = keras.layers.AveragePooling2D(pool_size=(2, 2))(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dense(16, activation="tanh")(x)
    tower = keras.Model(input, x)
    input_1 = keras.layers.Input((16, 16, 1))
    input_2 = keras.layers.Input((16, 16, 1))
    merged = keras.layers.Lambda(euclidean_distance, output_shape=(1,))(
        [tower(input_1), tower(input_2)]
    )
    normal = keras.layers.BatchNormalization()(merged)
    output = keras.layers.Dense(1, activation="sigmoid")(normal)
    return keras.Model(inputs=[input_1, input_2], outputs=output)


class DistanceLayer(layers.Layer):
    def call(self, anchor, positive, negative):
        near = ops.sum(ops.square(anchor - positive), -1)
        far = ops.sum(ops.square(anchor - negative), -1)
        return near, far


@entry("Siamese network with triplets", area="tables")
def triplets():
    base = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(16),
        ],
        name="Embedding",
    )
    names = ("anchor", "positive", "negative")
    inputs = [keras.Input((16, 16, 3), name=name) for name in names]
    distances = DistanceLayer()(*(base(x) for x in inputs))
    return keras.Model(inputs, distances)


@entry("two towers", area="tables", high={"user": 40, "item": 60, "genre": 8})
def two_towers():
    user = keras.Input((1,), dtype="int32", name="user")
    item = keras.Input((1,), dtype="int32", name="item")
    genre = keras.Input((3,), dtype="int32", name="genre")

    u = layers.Flatten()(layers.Embedding(40, 24)(user))
    u = layers.Dense(32, activation="relu")(u)
    u = layers.Dense(16)(u)
    i = layers.Flatten()(layers.Embedding(60, 24)(item))
    g = layers.GlobalAveragePooling1D()(layers.Embedding(8, 8)(genre))
    i = layers.Concatenate()([i, g])
    i = layers.Dense(32, activation="relu")(i)
    i = layers.Dense(16)(i)
    score = layers.Dot(axes=-1, normalize=True)([u, i])
    return keras.Model({"user": user, "item": item, "genre": genre}, score)


class RecommenderNet(keras.Model):
    def __init__(self, users, items, width, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(
            *(users, width),
            embeddings_initializer="he_normal",
            embeddings_regularizer=keras.regularizers.l2(1e-6),
        )
        self.user_bias = layers.Embedding(users, 1)
        self.item_embedding = layers.Embedding(items, width)
        self.item_bias = layers.Embedding(items, 1)

    def call(self, inputs):
        user = self.user_embedding(inputs[:, 0])
        item = self.item_embedding(inputs[:, 1])
        dot = ops.sum(user * item, axis=1, keepdims=True)
        x = dot + self.user_bias(inputs[:, 0]) + self.item_bias(inputs[:, 1])
        return ops.nn.sigmoid(x)


@entry(
    "collaborative filtering, subclassed",
    area="tables",
    inputs=lambda rng, n: rng.integers(0, 50, (n, 2)).astype("int32"),
    limit=0.6,
    inherent=EMBEDDINGS,
)
def recommender():
    model = RecommenderNet(50, 60, 16)
    model(ops.zeros((1, 2), "int32"))
    return model


@entry(
    "matrix factorization",
    area="tables",
    high=50,
    limit=0.6,
    inherent=EMBEDDINGS,
)
def factorization():
    user = keras.Input((1,), name="user", dtype="int32")
    item = keras.Input((1,), name="item", dtype="int32")
    u = layers.Flatten()(layers.Embedding(50, 16, name="user_vectors")(user))
    i = layers.Flatten()(layers.Embedding(50, 16, name="item_vectors")(item))
    dot = layers.Dot(axes=1)([u, i])
    bias_u = layers.Flatten()(layers.Embedding(50, 1)(user))
    bias_i = layers.Flatten()(layers.Embedding(50, 1)(item))
    rating = layers.Add()([dot, bias_u, bias_i])
    return keras.Model([user, item], rating)


@entry("neural collaborative filtering", area="tables", high=50)
def neural_filtering():
    user = keras.Input((), name="user", dtype="int32")
    item = keras.Input((), name="item", dtype="int32")
    product = layers.Multiply()(
        [layers.Embedding(50, 12)(user), layers.Embedding(50, 12)(item)]
    )
    x = layers.Concatenate()(
        [layers.Embedding(50, 16)(user), layers.Embedding(50, 16)(item)]
    )
    for units in (48, 48, 24):
        x = layers.Dense(units, activation="relu")(x)
        x = layers.Dropout(0.2)(x)
    x = layers.Concatenate()([product, x])
    return keras.Model([user, item], layers.Dense(1, activation="sigmoid")(x))


SIZES = {"age": None, "hours": None, "job": 8, "education": 6, "place": 12}


def table_inputs():
    return {
        name: keras.Input((), name=name, dtype="int32" if size else "float32")
        for name, size in SIZES.items()
    }


def encode(inputs, width=None):
    columns = []
    for name, size in SIZES.items():
        if size is None:
            columns.append(ops.expand_dims(inputs[name], -1))
        elif width is None:
            columns.append(
                layers.CategoryEncoding(size, output_mode="one_hot")(
                    inputs[name]
                )
            )
        else:
            columns.append(layers.Embedding(size, width)(inputs[name]))
    return layers.concatenate(columns)


TABLE = {name: size for name, size in SIZES.items() if size}


@entry("wide and deep", area="tables", high=TABLE)
def wide_and_deep():
    inputs = table_inputs()
    wide = encode(inputs)
    wide = layers.BatchNormalization()(wide)
    deep = encode(inputs, 6)
    for units in (48, 48):
        deep = layers.Dense(units)(deep)
        deep = layers.BatchNormalization()(deep)
        deep = layers.ReLU()(deep)
        deep = layers.Dropout(0.1)(deep)
    merged = layers.concatenate([wide, deep])
    outputs = layers.Dense(units=3, activation="softmax")(merged)
    return keras.Model(inputs=inputs, outputs=outputs)


@entry("deep and cross", area="tables", high=TABLE)
def deep_and_cross():
    inputs = table_inputs()
    x0 = encode(inputs, 8)
    cross = x0
    for _ in range(2):
        units = cross.shape[-1]
        x = layers.Dense(units)(cross)
        cross = x0 * x + cross
    cross = layers.BatchNormalization()(cross)
    deep = x0
    for units in (48, 32):
        deep = layers.Dense(units)(deep)
        deep = layers.BatchNormalization()(deep)
        deep = layers.ReLU()(deep)
    merged = layers.concatenate([cross, deep])
    outputs = layers.Dense(units=3, activation="softmax")(merged)
    return keras.Model(inputs=inputs, outputs=outputs)


def mlp(hidden_units, rate, activation, normalization, name=None):
    parts = []
    for units in hidden_units:
        parts.append(normalization())
        parts.append(layers.Dense(units, activation=activation))
        parts.append(layers.Dropout(rate))
    return keras.Sequential(parts, name=name)


@entry(
    "TabTransformer", area="tables", high=TABLE, limit=0.6, inherent=NORMALIZED
)
def tab_transformer():
    inputs = table_inputs()
    encoded, numeric = [], []
    for name, size in SIZES.items():
        if size is None:
            numeric.append(ops.expand_dims(inputs[name], -1))
        else:
            encoded.append(layers.Embedding(size, 16)(inputs[name]))
    x = ops.stack(encoded, axis=1)
    columns = layers.Embedding(len(encoded), 16)
    x = x + columns(ops.arange(0, len(encoded), 1))
    for index in range(2):
        y = layers.MultiHeadAttention(4, 4, dropout=0.1)(x, x)
        x = layers.Add()([y, x])
        x = layers.LayerNormalization(epsilon=1e-6)(x)
        y = mlp(
            *([16], 0.1, keras.activations.gelu),
            normalization=layers.LayerNormalization,
            name=f"MLP{index}",
        )(x)
        x = layers.Add()([y, x])
        x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Flatten()(x)
    numbers = layers.LayerNormalization(epsilon=1e-6)(
        layers.concatenate(numeric)
    )
    x = layers.concatenate([x, numbers])
    x = mlp(
        *([48, 24], 0.2, keras.activations.selu),
        normalization=layers.BatchNormalization,
        name="MLP",
    )(x)
    outputs = layers.Dense(1, activation="sigmoid")(x)
    return keras.Model(inputs=inputs, outputs=outputs)


class GatedLinearUnit(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)


class GatedResidualNetwork(layers.Layer):
    def __init__(self, units, dropout_rate):
        super().__init__()
        self.units = units
        self.elu_dense = layers.Dense(units, activation="elu")
        self.linear_dense = layers.Dense(units)
        self.dropout = layers.Dropout(dropout_rate)
        self.gated_linear_unit = GatedLinearUnit(units)
        self.layer_norm = layers.LayerNormalization()
        self.project = layers.Dense(units)

    def call(self, inputs):
        x = self.elu_dense(inputs)
        x = self.linear_dense(x)
        x = self.dropout(x)
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        x = inputs + self.gated_linear_unit(x)
        return self.layer_norm(x)


class VariableSelection(layers.Layer):
    def __init__(self, num_features, units, dropout_rate):
        super().__init__()
        self.grns = []
        for _ in range(num_features):
            self.grns.append(GatedResidualNetwork(units, dropout_rate))
        self.grn_concat = GatedResidualNetwork(units, dropout_rate)
        self.softmax = layers.Dense(units=num_features, activation="softmax")

    def call(self, inputs):
        v = layers.concatenate(inputs)
        v = self.grn_concat(v)
        v = ops.expand_dims(self.softmax(v), axis=-1)
        x = [grn(feature) for grn, feature in zip(self.grns, inputs)]
        x = ops.stack(x, axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, (0, 2, 1)), x), axis=1)


@entry(
    "gated residuals and selection of variables",
    area="tables",
    high=TABLE,
    limit=0.6,
    inherent=NORMALIZED,
)
def variable_selection():
    inputs = table_inputs()
    columns = []
    for name, size in SIZES.items():
        if size is None:
            column = ops.expand_dims(inputs[name], -1)
            columns.append(layers.Dense(12)(column))
        else:
            columns.append(layers.Embedding(size, 12)(inputs[name]))
    features = VariableSelection(len(columns), 12, 0.15)(columns)
    outputs = layers.Dense(1, activation="sigmoid")(features)
    return keras.Model(inputs=inputs, outputs=outputs)


def table_of_strings(rng, examples):
    import tensorflow as tf

    return {
        "age": rng.uniform(20, 70, (examples, 1)).astype("float32"),
        "rooms": rng.integers(1, 6, (examples, 1)).astype("int32"),
        "kind": tf.constant(rng.choice(KINDS, (examples, 1)).tolist()),
    }


KINDS = ["flat", "house", "boat", "tent"]


@entry("structured data", area="tables", inputs=table_of_strings)
def structured():
    age = keras.Input((1,), name="age")
    rooms = keras.Input((1,), name="rooms", dtype="int32")
    kind = keras.Input((1,), name="kind", dtype="string")
    scaled = layers.Normalization(mean=45.0, variance=200.0)(age)
    bucket = layers.Discretization(
        bin_boundaries=[30.0, 40.0, 50.0], output_mode="one_hot"
    )(age)
    lookup = layers.StringLookup(output_mode="one_hot")
    lookup.set_vocabulary(KINDS)
    counts = layers.IntegerLookup(
        vocabulary=[1, 2, 3, 4, 5], output_mode="multi_hot"
    )(rooms)
    x = layers.concatenate([scaled, bucket, counts, lookup(kind)])
    x = layers.Dense(48, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(24, activation="mish")(x)
    outputs = layers.Dense(1, activation="sigmoid")(x)
    return keras.Model({"age": age, "rooms": rooms, "kind": kind}, outputs)


@entry("structured data, embeddings", area="tables", high=TABLE)
def structured_embeddings():
    inputs = table_inputs()
    x = encode(inputs, 10)
    x = layers.Dense(64, kernel_initializer="he_normal")(x)
    x = layers.PReLU()(x)
    x = layers.AlphaDropout(0.1)(x)
    x = layers.Dense(32, activation="selu")(x)
    price = layers.Dense(1, name="price")(x)
    sold = layers.Dense(1, activation="sigmoid", name="sold")(x)
    return keras.Model(inputs, [price, sold])


class NeuralDecisionTree(keras.layers.Layer):
    def __init__(self, depth, features, classes):
        super().__init__()
        self.depth = depth
        self.leaves = 2**depth
        self.decisions = layers.Dense(self.leaves, activation="sigmoid")
        self.bottleneck = layers.Dense(features)
        self.pi = self.add_weight(
            shape=(self.leaves, classes), initializer="random_normal"
        )

    def call(self, features):
        features = self.bottleneck(features)
        decisions = ops.expand_dims(self.decisions(features), axis=2)
        decisions = ops.concatenate([decisions, 1 - decisions], axis=2)
        mu = ops.ones_like(decisions[:, :1, :1])
        begin, end = 1, 2
        for level in range(self.depth):
            mu = ops.reshape(mu, [-1, 2**level, 1])
            mu = ops.repeat(mu, 2, axis=2)
            mu = mu * decisions[:, begin:end, :]
            begin, end = end, end + 2 ** (level + 1)
        mu = ops.reshape(mu, [-1, self.leaves])
        return ops.matmul(mu, ops.softmax(self.pi))


@entry(
    "neural decision tree",
    area="tables",
    high=TABLE,
    known="decisions that are reshaped level by level are not followed",
)
def decision_tree():
    inputs = table_inputs()
    features = layers.BatchNormalization()(encode(inputs, 8))
    outputs = NeuralDecisionTree(3, 16, 3)(features)
    return keras.Model(inputs, outputs)


class FactorizationMachine(layers.Layer):
    def call(self, x):
        squared = ops.square(ops.sum(x, axis=1))
        return 0.5 * ops.sum(
            squared - ops.sum(ops.square(x), axis=1), axis=1, keepdims=True
        )


@entry("DeepFM", area="tables", high=TABLE)
def deep_fm():
    inputs = table_inputs()
    fields = [
        layers.Embedding(size, 12)(inputs[name]) for name, size in TABLE.items()
    ]
    stacked = layers.Lambda(lambda t: ops.stack(t, axis=1))(fields)
    second = FactorizationMachine()(stacked)
    deep = layers.Flatten()(stacked)
    deep = layers.Dense(48, activation="relu")(deep)
    deep = layers.Dense(24, activation="relu")(deep)
    deep = layers.Dense(1)(deep)
    total = layers.Add()([second, deep])
    return keras.Model(inputs, layers.Activation("sigmoid")(total))
