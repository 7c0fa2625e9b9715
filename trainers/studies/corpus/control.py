"""Networks that act."""

import keras
from keras import layers
from keras import ops

from trainers.studies.corpus.entry import entry


@entry(
    "actor and critic",
    area="control",
    limit=0.55,
    inherent="its layers are the first and the last, of which a half is left",
)
def actor_critic():
    inputs = layers.Input(shape=(4,))
    common = layers.Dense(64, activation="relu")(inputs)
    action = layers.Dense(2, activation="softmax")(common)
    critic = layers.Dense(1)(common)
    return keras.Model(inputs=inputs, outputs=[action, critic])


@entry("deep Q-network", area="control")
def deep_q():
    return keras.Sequential(
        [
            keras.Input((4, 36, 36)),
            layers.Lambda(
                lambda tensor: ops.transpose(tensor, [0, 2, 3, 1]),
                output_shape=(36, 36, 4),
            ),
            layers.Conv2D(16, 8, strides=4, activation="relu"),
            layers.Conv2D(24, 4, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(4, activation="linear"),
        ]
    )


@entry("dueling Q-network", area="control")
def dueling():
    inputs = keras.Input((8,))
    x = layers.Dense(48, activation="relu")(inputs)
    x = layers.Dense(48, activation="relu")(x)
    value = layers.Dense(1)(layers.Dense(24, activation="relu")(x))
    gain = layers.Dense(4)(layers.Dense(24, activation="relu")(x))
    q = value + gain - ops.mean(gain, axis=1, keepdims=True)
    return keras.Model(inputs, q)


@entry("DDPG, critic", area="control")
def ddpg_critic():
    state_input = layers.Input(shape=(3,))
    state_out = layers.Dense(16, activation="relu")(state_input)
    state_out = layers.Dense(32, activation="relu")(state_out)
    action_input = layers.Input(shape=(1,))
    action_out = layers.Dense(32, activation="relu")(action_input)
    concat = layers.Concatenate()([state_out, action_out])
    out = layers.Dense(64, activation="relu")(concat)
    out = layers.Dense(64, activation="relu")(out)
    outputs = layers.Dense(1)(out)
    return keras.Model([state_input, action_input], outputs)


@entry("DDPG, actor", area="control")
def ddpg_actor():
    last_init = keras.initializers.RandomUniform(minval=-0.003, maxval=0.003)
    inputs = layers.Input(shape=(3,))
    out = layers.Dense(64, activation="relu")(inputs)
    out = layers.Dense(64, activation="relu")(out)
    outputs = layers.Dense(1, activation="tanh", kernel_initializer=last_init)(
        out
    )
    return keras.Model(inputs, outputs * 2.0)


class GaussianPolicy(keras.Model):
    def __init__(self, actions):
        super().__init__()
        self.trunk = [layers.Dense(48, activation="tanh") for _ in range(2)]
        self.mean = layers.Dense(actions)
        self.log_std = self.add_weight(shape=(actions,), initializer="zeros")

    def call(self, observation):
        x = observation
        for layer in self.trunk:
            x = layer(x)
        mean = self.mean(x)
        std = ops.exp(self.log_std) * ops.ones_like(mean)
        return {"mean": mean, "std": std}


@entry(
    "Gaussian policy, subclassed",
    area="control",
    inputs=lambda rng, n: rng.standard_normal((n, 6)).astype("float32"),
)
def gaussian_policy():
    model = GaussianPolicy(3)
    model(ops.zeros((1, 6)))
    return model
