"""What a finished run leaves behind."""

import dataclasses
import math
import os
import platform
import tempfile
from importlib import metadata

import keras
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


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training has made, without optimizers and outside strategies.

    Args:
        model: the network with averaged weights.
        raw_error: the test error without averaging, in percent.
        small: what was cut from it and trained on; `None` where `strip` gives
            all that is left.
    """

    model: keras.Model
    raw_error: float
    small: keras.Model | None = None


def without_optimizer(config, data, model, epoch_steps, shrinking=None):
    """The trained network, to save and to cut.

    Args:
        config: a `Config`.
        data: what `input_pipeline.load` returns.
        model: the compiled model as the last step left it.
        epoch_steps: see `networks.build`.
        shrinking: what has cut the model while it was trained, an
            `l0keras.Shrinking`, or `None`.

    Returns:
        A `Trained`, whose network has the units that were cut, too, behind
        closed gates.
    """
    trained = networks.build(
        config,
        data.input_shape,
        data.classes,
        data.num_train,
        data.normalization,
        epoch_steps,
    )
    fill = shrinking.fill if shrinking else _fill
    return Trained(trained, _take_over(model, trained, data, fill))


def with_small(trained, model, small, data):
    """Adds the network that was cut.

    Args:
        trained: a `Trained`.
        model: the compiled small model as the last step left it.
        small: the same without an optimizer. It gets the weights.
        data: what `input_pipeline.load` returns.

    Returns:
        A `Trained`.
    """
    raw_error = _take_over(model, small, data, _fill)
    return dataclasses.replace(trained, raw_error=raw_error, small=small)


def _take_over(model, other, data, fill):
    """Gives another model the averaged weights; returns the error without."""
    fill(other, model)
    raw_error = error_percent(predict(other, data), data)
    with callbacks.averaged_weights(model):
        fill(other, model)
    return raw_error


def _fill(model, trained):
    model.set_weights(trained.get_weights())


def write(config, data, model, result, history, folder):
    """Evaluates, strips, exports, draws and reports a trained model.

    Args:
        config: a `Config`.
        data: what `input_pipeline.load` returns.
        model: the compiled model as the last step left it.
        result: a `Trained`.
        history: a list of dicts, one for each epoch.
        folder: a `Workdir`.

    Returns:
        The report, a dict, also written to `report.json`. Its `test_error`
        (percent, on averaged weights), `params`, `macs`, `bytes` (of the
        file) and `latency_us` (one example under LiteRT on one thread) are
        dicts over the stages `dense`, `gated` or `sparse`, `stripped` and
        `tflite`, as far as they have them. `dense` is the plain network of
        the same shape as a LiteRT file, untrained unless the method is to
        train it. `stripped` is what was cut to the targets and trained on,
        where there are any; `targets` says what they asked for and what was
        reached. Methods of sparse connections also have `connections`, the
        weights of kernels that are not 0, for each kernel and of the stages,
        and a stage `tflite_sparse`, a file without the zeros. Methods of
        groups have `groups`, what `ProximalSGD.zero_groups` counts.
    """
    trained = result.model
    dense = networks.build_plain(
        config, data.input_shape, data.classes, data.normalization
    )
    gates = l0keras.gates_of(trained)
    stage = "gated" if gates else "sparse"
    if config.method == "dense":
        stage = "dense"
    stripped = result.small or l0keras.strip(trained)
    models = {
        "dense": dense,
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
    # What was cut has been trained on since, and gives something else.
    whole = "stripped" if result.small else stage
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
        "test_error_raw": result.raw_error,
        # Of the logits of all test images, to those of the trained model.
        "max_difference": {
            name: float(np.max(np.abs(outputs[name] - outputs[whole])))
            for name in ("stripped", *files)
            if name != whole
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
    if config.has_target:
        report["targets"] = _reached(config, dense, trained, stripped)
    if config.has_groups:
        [optimizer] = optimizers_of(model.optimizer, ProximalSGD)
        report["groups"] = optimizer.zero_groups()
    if config.has_connections:
        potential = kernel_sizes(trained)
        counts = connections_of(trained)
        report["connections"] = {
            "of_kernels": counts,
            "sparse": sum(counts.values()),
            "stripped": sum(connections_of(stripped).values()),
            "sizes": potential,
            "potential": sum(potential.values()),
        }
    plots.draw(trained, data.input_shape, history, folder)
    # Last, because a run that has it counts as finished.
    write_json(folder.file("report.json"), report)
    return report


def _reached(config, dense, trained, stripped):
    """What was asked for and what was reached, a dict for each size."""
    found = {}
    for target in config.targets:
        limit = target.limit(l0keras.targets.size_of(dense, target))
        if config.has_connections:
            reached = trained.count_params() - sum(
                int(np.sum(kernel.numpy() == 0))
                for kernel in kernels_of(trained)
            )
        else:
            reached = l0keras.targets.size_of(stripped, target)
        found[target.of] = {"asked": limit, "reached": reached}
    return found


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
