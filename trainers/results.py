"""What a finished run leaves behind."""

import platform

import keras
import numpy as np
import tensorflow as tf

import l0keras
from l0keras import callbacks
from trainers.workdir import replacing
from trainers.workdir import write_json


def write(config, data, model, history, folder):
    """Evaluates, strips, exports and reports a trained model.

    Args:
        config: a `Config`.
        data: a `Data`.
        model: the compiled model as the last step left it.
        history: a list of dicts, one for each epoch.
        folder: a `Workdir`.

    Returns:
        The report, a dict.
    """
    gated = config.build(data.input_shape, data.classes, len(data.train_labels))
    raw_error = test_error(model, data)
    with callbacks.averaged_weights(model):
        gated.set_weights(model.get_weights())
    report = {
        "architecture": "-".join(
            str(gate.count_open()) for gate in l0keras.gates_of(gated)
        ),
        "test_error": {"gated": test_error(gated, data)},
        "test_error_raw": raw_error,
        "params": {"gated": gated.count_params()},
        "seed": config.seed,
        "epochs": len(history),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "config": config.to_json(),
        "versions": {
            "l0keras": "0.1.0",
            "python": platform.python_version(),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
        },
    }
    with replacing(folder.file("model.keras")) as path:
        gated.save(path)
    write_json(folder.file("report.json"), report)
    return report


def test_error(model, data):
    """The share of test examples that a model gets wrong, in percent."""
    wrong = 0
    for images, labels in data.test_batches():
        logits = model.predict_on_batch(images)
        wrong += int(np.sum(np.argmax(logits, axis=-1) != labels.numpy()))
    return 100.0 * wrong / len(data.test_labels)


def table(report):
    """The report as text."""
    return "\n".join(f"{name}: {value}" for name, value in report.items())
