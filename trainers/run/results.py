"""What a finished run leaves behind."""

import math
import os
import platform
import tempfile
from importlib import metadata

import numpy as np

import l0keras
from l0keras import callbacks
from l0keras.optimizers import ProximalSGD
from l0keras.optimizers import optimizers_of
from trainers.run import networks
from trainers.run import plots
from trainers.run.metrics import error_percent
from trainers.run.metrics import predict
from trainers.run.optimizers import kernels_of
from trainers.run.workdir import replacing
from trainers.run.workdir import write_json

PACKAGES = ("keras", "tensorflow", "numpy", "ai-edge-litert")


def write(config, data, model, history, folder):
    """Evaluates, strips, exports, draws and reports a trained model.

    Args:
        config: a `Config`.
        data: what `input_pipeline.load` returns.
        model: the compiled model as the last step left it.
        history: a list of dicts, one for each epoch.
        folder: a `Workdir`.

    Returns:
        The report, a dict, also written to `report.json`. Its `test_error`
        (percent, on averaged weights), `params`, `macs`, `bytes` (of the
        file) and `latency_us` (one example under LiteRT on one thread) are
        dicts over the stages `dense`, `gated` or `sparse`, `stripped` and
        `tflite`, as far as they have them. `dense` is the plain network of
        the same shape as a LiteRT file, untrained unless the method is to
        train it. Methods of sparse connections also have `connections`, the
        weights of kernels that are not 0, for each kernel and of the stages,
        and a stage `tflite_sparse`, a file without the zeros. Methods of
        groups have `groups`, what `ProximalSGD.zero_groups` counts.
    """
    # A model without optimizer and outside any strategy, to save and to cut.
    shapes = (data.input_shape, data.classes)
    trained = networks.build(
        config, *shapes, data.num_train, data.normalization
    )
    trained.set_weights(model.get_weights())
    raw_error = error_percent(predict(trained, data), data)
    with callbacks.averaged_weights(model):
        trained.set_weights(model.get_weights())
    gates = l0keras.gates_of(trained)
    stage = "gated" if gates else "sparse"
    if config.method == "dense":
        stage = "dense"
    stripped = l0keras.strip(trained)
    models = {
        "dense": networks.build_plain(config, *shapes, data.normalization),
        stage: trained,
        "stripped": stripped,
        # The file holds what the stripped model does.
        "tflite": stripped,
    }
    for name, saved in (("model", trained), ("stripped", stripped)):
        with replacing(folder.file(f"{name}.keras")) as path:
            saved.save(path)
    tflite = l0keras.export_tflite(stripped, folder.file("model.tflite"))
    files = {"tflite": tflite}
    if config.has_connections:
        models["tflite_sparse"], files["tflite_sparse"] = _without_zeros(
            trained, folder.file("sparse.tflite")
        )
    dense_bytes, latency = _compare(models["dense"], files)
    outputs = {
        stage: predict(trained, data),
        "stripped": predict(stripped, data),
        **{name: predict(file.path, data) for name, file in files.items()},
    }
    report = {
        "architecture": l0keras.architecture(trained),
        "units": {
            name: l0keras.architecture(
                m, trained if gates and m is stripped else None
            )
            for name, m in models.items()
        },
        "test_error": {
            name: error_percent(logits, data)
            for name, logits in outputs.items()
        },
        "test_error_raw": raw_error,
        # Of the logits of all test images, to those of the trained model.
        "max_difference": {
            name: float(np.max(np.abs(outputs[name] - outputs[stage])))
            for name in ("stripped", *files)
        },
        "params": {name: m.count_params() for name, m in models.items()},
        "macs": {name: l0keras.count_macs(m) for name, m in models.items()},
        "bytes": {
            stage: os.path.getsize(folder.file("model.keras")),
            "dense": dense_bytes,
            "stripped": os.path.getsize(folder.file("stripped.keras")),
            **{name: file.bytes for name, file in files.items()},
        },
        "latency_us": latency,
        "expected_l0": sum(float(np.sum(g.prob_open())) for g in gates),
        "seed": config.seed,
        "epochs": len(history),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "config": config.to_json(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }
    if config.has_groups:
        [optimizer] = optimizers_of(model.optimizer, ProximalSGD)
        report["groups"] = optimizer.zero_groups()
    if config.has_connections:
        sizes = kernel_sizes(trained)
        counts = connections_of(trained)
        report["connections"] = {
            "of_kernels": counts,
            "sparse": sum(counts.values()),
            "stripped": sum(connections_of(stripped).values()),
            "sizes": sizes,
            "potential": sum(sizes.values()),
        }
    plots.draw(trained, data.input_shape, history, folder)
    # Last, because a run that has it counts as finished.
    write_json(folder.file("report.json"), report)
    return report


def kernel_sizes(model):
    """How many weights each kernel has, by path."""
    return {k.path: math.prod(k.shape) for k in kernels_of(model)}


def connections_of(model):
    """How many weights of each kernel are not 0, by path."""
    return {
        kernel.path: int(np.count_nonzero(kernel.numpy()))
        for kernel in kernels_of(model)
    }


def _without_zeros(model, path):
    """A file without the zeros of a model, and the model that it holds."""
    # LiteRT's sparse kernels err where the number of inputs is no multiple of
    # 4. That of the pixels that are read is not rounded, all of them are.
    for one in (l0keras.strip(model, round_to=4), model):
        try:
            return one, l0keras.export_tflite(one, path, sparse_encoding=True)
        except RuntimeError:
            if one is model:
                raise


def _compare(dense, files):
    """Bytes of the dense network's LiteRT file, and latencies of all."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "dense.tflite")
        size = l0keras.export_tflite(dense, path).bytes
        paths = [path, *(file.path for file in files.values())]
        times = l0keras.export.measure_latency(paths)
    return size, dict(zip(("dense", *files), times, strict=True))
