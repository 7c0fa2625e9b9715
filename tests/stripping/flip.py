"""A layer that the library does not know; it must not import the library."""

import keras


@keras.saving.register_keras_serializable("tests")
class Flip(keras.layers.Layer):
    """Turns the channels around."""

    def call(self, inputs):
        return keras.ops.flip(inputs, axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape
