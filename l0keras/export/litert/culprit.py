"""The layer at which a converter ends its process."""

import keras

from l0keras.export.litert.worker import WorkerDied
from l0keras.export.litert.worker import WorkFailed


def culprit(origin, path, settings, batch_size):
    """Finds the first layer up to which a model cannot be converted.

    Args:
        origin: the `Source` whose conversion ended the process.
        path: the path of a file that may be written.
        settings, batch_size: as they were then.

    Returns:
        A string such as `layer 'lstm' (LSTM)`.
    """
    parts = origin.parts()
    # All of them end it, and less than the first does not.
    works, fails = -1, len(parts) - 1
    while fails - works > 1:
        middle = (works + fails) // 2
        try:
            parts[middle][1]().convert(path, *settings, batch_size)
            works = middle
        except WorkFailed:
            works = middle
        except WorkerDied:
            fails = middle
    if not parts:
        return "a layer"
    layer, _ = parts[fails]
    kind = "layer" if isinstance(layer, keras.Layer) else "operation"
    return f"{kind} '{layer.name}' ({type(layer).__name__})"
