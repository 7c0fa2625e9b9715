"""What the tests of several folders share."""

import keras
import numpy as np
from keras import ops


def gradient(function, value):
    """The gradient of a function of one tensor, on the running backend.

    Args:
        function: from a float32 tensor to a tensor, which is summed.
        value: an array.

    Returns:
        A numpy array of the shape of `value`.
    """
    value = ops.convert_to_tensor(np.asarray(value, "float32"))
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: ops.sum(function(x)))(value))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(value)
        result = ops.sum(function(value))
    return tape.gradient(result, value).numpy()


def sigmoid(x):
    """The logistic function in float64, without overflow."""
    x = np.asarray(x, "float64")
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def train_steps(model, inputs, targets, steps=1, **compile_arguments):
    """Compiles a model, trains it on the same batch and returns the loss."""
    arguments = {"optimizer": "sgd", "loss": "mse", **compile_arguments}
    # To compile is dearer than two steps, and much cheaper than many on JAX.
    compiled = keras.backend.backend() == "jax" and steps > 10
    model.compile(jit_compile=compiled, **arguments)
    repeated = [np.concatenate([data] * steps) for data in (inputs, targets)]
    history = model.fit(
        *repeated, batch_size=len(inputs), shuffle=False, verbose=0
    )
    return history.history["loss"][-1]
