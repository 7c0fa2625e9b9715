"""The one place that imports tf_keras and tensorflow-model-optimization."""

import contextlib
import importlib
import os
import warnings

# Before tfmot, whose import may turn Keras into Keras 2.
import keras  # noqa: F401

LEGACY = "TF_USE_LEGACY_KERAS"
MISSING = (
    "This needs tf_keras and tensorflow-model-optimization. Install them with "
    "`pip install 'l0keras[tfmot]'`."
)


def import_tf_keras():
    """The module `tf_keras`, or an `ImportError` with the way to install it."""
    with _as_before():
        try:
            import tf_keras
        except ImportError as error:
            raise ImportError(MISSING) from error
    return tf_keras


def import_tfmot():
    """The module `tensorflow_model_optimization`, or an `ImportError`."""
    import_tf_keras()
    with _as_before():
        try:
            import tensorflow_model_optimization as tfmot
        except ImportError as error:
            raise ImportError(MISSING) from error
    return tfmot


def import_tfmot_module(path):
    """A module of tfmot that is not in its public interface."""
    import_tfmot()
    with _as_before():
        return importlib.import_module(
            f"tensorflow_model_optimization.python.core.{path}"
        )


@contextlib.contextmanager
def _as_before():
    """Undoes the changes of an import to the process; hides its warnings."""
    import tensorflow as tf

    # `tf.keras` chooses its version at its first use. After tfmot has set the
    # variable it would be Keras 2 for the rest of the process.
    getattr(tf.keras, "version", None)
    legacy = os.environ.get(LEGACY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if legacy is None:
            os.environ.pop(LEGACY, None)
        else:
            os.environ[LEGACY] = legacy
