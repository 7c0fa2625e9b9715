"""The one way to tf_keras (Keras 2) and tensorflow-model-optimization."""
