"""The selection of channels, which tf_keras has no layer for."""

import functools

from l0keras.export.bridge.tfmot import import_tf_keras


@functools.cache
def take_class():
    """A layer of tf_keras that takes entries along an axis.

    A class made late, because its base is imported late; registered, so that
    tfmot can clone it.
    """
    import tensorflow as tf

    tf_keras = import_tf_keras()

    @tf_keras.utils.register_keras_serializable("l0keras")
    class Take(tf_keras.layers.Layer):
        def __init__(self, indices, axis, **kwargs):
            super().__init__(**kwargs)
            self.indices = indices
            self.axis = axis

        def call(self, inputs):
            return tf.gather(inputs, self.indices, axis=self.axis)

        def get_config(self):
            return {
                **super().get_config(),
                "indices": self.indices,
                "axis": self.axis,
            }

    return Take
