"""The checks of one model, from its gates to its LiteRT file."""

import contextlib
import functools
import gc
import os
import tempfile
import time

import keras
import numpy as np

import l0keras
from l0keras.export import ROUNDING
from l0keras.export import ROUNDING_FACTOR
from l0keras.export import quiet

EXAMPLES = 8
# How far outputs may differ, see `relative_difference`.
TOLERANCE = 1e-4
L0 = 0.1 / 50_000


def prove(build, seed=0, dense_file=True):
    """Gates, trains, strips and exports a model, and checks the results.

    All weights but kernels are first moved off their initial values, and the
    statistics of `BatchNormalization` fitted to random images, so that nothing
    agrees by chance. Gates are put on, and one step is trained. Then half of
    the gates, drawn at random, are closed and the others set to random values
    in (0, 1].

    Args:
        build: a function without arguments that returns a functional
            `keras.Model` from images to logits.
        seed: an integer that fixes weights, images and gates.
        dense_file: whether to write a LiteRT file of the model as it was, for
            its size.

    Returns:
        A dictionary for JSON:

        - `input`: the shape of an image.
        - `gates`: the numbers of `vectors`, of single `units` and of `open`
          ones.
        - `params`, `macs`, `bytes` (of the LiteRT file): dictionaries with
          `dense` and `stripped`.
        - `loss`: that of the training step.
        - `max_difference`: of the outputs, between the model and the model
          with open gates (`gated`), between the model with half of its gates
          closed and the stripped one (`stripped`), and between that and the
          LiteRT file (`tflite`), see `relative_difference`.
        - `rounding`: where one of these is above 1e-4, by how much the outputs
          change if the images do by a share of 1e-6. Ten times as much is
          taken for rounding errors.
        - `seconds`: for each step.
        - `errors`: a list of strings, empty if all is as it has to be.
    """
    row = {"max_difference": {}, "bytes": {}, "seconds": {}, "errors": []}
    clock = _Clock(row["seconds"])
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    with clock("build"):
        model = build()
    row["input"] = list(model.input_shape[1:])
    row["params"] = {"dense": model.count_params()}
    row["macs"] = {"dense": l0keras.count_macs(model)}
    images = images_for(model, rng)
    with clock("randomize"):
        randomize(model, rng)
        fit_statistics(model, images, rng)
    if dense_file:
        with clock("dense file"):
            row["bytes"]["dense"] = _litert_bytes(model)
    with clock("sparsify"):
        gated = with_gates(model, seed)
    groups = l0keras.channel_groups(model)
    expected = _outputs(model, images)
    _compare(row, "gated", _outputs(gated, images), expected)
    # The largest model has room for this once only.
    del model
    gc.collect()
    with clock("train"):
        row["loss"] = _train(gated, images, rng)
    if not np.isfinite(row["loss"]):
        row["errors"].append(f"the loss of a training step is {row['loss']}")
    close_half(gated, rng)
    fit_statistics(gated, images, rng)
    gates = l0keras.gates_of(gated)
    row["gates"] = {
        "vectors": len(gates),
        "units": sum(gate.log_alpha.shape[0] for gate in gates),
        "open": sum(gate.count_open() for gate in gates),
    }
    with clock("strip"):
        stripped = l0keras.strip(gated)
    row["params"]["stripped"] = stripped.count_params()
    row["macs"]["stripped"] = l0keras.count_macs(stripped)
    expected = _outputs(stripped, images)
    shaken = functools.partial(_rounding, stripped, images, expected)
    _compare(row, "stripped", expected, _outputs(gated, images), shaken)
    row["errors"] += _wrong_widths(groups, gated, stripped)
    del gated, gates
    gc.collect()
    row["errors"] += _changes(stripped)
    with clock("stripped file"), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "stripped.tflite")
        row["bytes"]["stripped"] = l0keras.export_tflite(stripped, path).bytes
        outputs = l0keras.export.run_tflite(path, images)
    _compare(row, "tflite", outputs, expected, shaken)
    return row


def stripped(build, seed=0, examples=EXAMPLES):
    """A network after `strip` as in `prove`, but not trained and not checked.

    Args:
        build, seed: as for `prove`.
        examples: the number of images.

    Returns:
        The stripped network, and images for it.
    """
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    model = build()
    images = images_for(model, rng, examples)
    randomize(model, rng)
    fit_statistics(model, images, rng)
    gated = with_gates(model, seed)
    close_half(gated, rng)
    fit_statistics(gated, images, rng)
    return l0keras.strip(gated), images


def relative_difference(outputs, expected):
    """The error of outputs in units of their variation.

    Args:
        outputs: an array of shape (examples, units).
        expected: the array that they should be.

    Returns:
        The largest absolute difference as a share of the largest deviation of
        a unit of `expected` from its mean over the examples. A part that all
        examples share, like the last bias, does not hide errors.
    """
    expected = np.asarray(expected, "float64")
    deviation = np.max(np.abs(expected - np.mean(expected, axis=0)))
    return float(np.max(np.abs(outputs - expected)) / deviation)


class _Clock:
    def __init__(self, seconds):
        self._seconds = seconds

    @contextlib.contextmanager
    def __call__(self, name):
        start = time.perf_counter()
        yield
        self._seconds[name] = round(time.perf_counter() - start, 2)


def _rounding(model, images, expected):
    """By how much outputs change if images do by a few roundings."""
    shaken = images * np.float32(1 + ROUNDING)
    return relative_difference(_outputs(model, shaken), expected)


def _compare(row, name, outputs, expected, rounding=lambda: 0.0):
    difference = relative_difference(outputs, expected)
    row["max_difference"][name] = difference
    # `not <=` also refuses NaN.
    if not difference <= TOLERANCE:
        row["rounding"] = rounding()
        # As `export_tflite` allows for.
        if difference <= ROUNDING_FACTOR * row["rounding"]:
            return
        row["errors"].append(
            f"{name}: outputs differ by {difference:.1e} of how much they vary"
        )


# === Weights, images and gates that hide nothing ===


def images_for(model, rng, examples=EXAMPLES):
    shape = (examples, *model.input_shape[1:])
    # Patches and noise: of noise alone, deep layers see hardly any difference.
    patches = rng.random((examples, 4, 4, shape[-1]), "float32")
    rows, columns = (np.arange(size) * 4 // size for size in shape[1:3])
    images = patches[:, rows[:, None], columns]
    images = 0.7 * images + 0.3 * rng.random(shape, "float32")
    scalings = (keras.layers.Rescaling, keras.layers.Normalization)
    if any(isinstance(layer, scalings) for layer in model.layers):
        # It wants pixels as they are, and takes care of them.
        return 255 * images
    return 2 * images - 1


def randomize(model, rng):
    """Moves biases and scales off their initial values."""
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:
            noise = rng.standard_normal(weight.shape)
            # Biases small beside the signal, where nothing normalizes it.
            # Offsets above 0: most of a signal then passes a ReLU, and
            # rounding errors grow less from layer to layer.
            scale, shift = {"bias": (0.05, 0.0), "beta": (0.2, 1.0)}.get(
                weight.name, (0.2, 0.0)
            )
            weight.assign_add(scale * noise + shift)


def fit_statistics(model, images, rng):
    """Gives normalization layers the statistics that the images have.

    Or nearly: with random ones, signals would die or explode on their way
    through a hundred layers, and the outputs show nothing any more.
    """
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum
        variance = keras.ops.convert_to_numpy(layer.moving_variance)
        noise = 0.1 * rng.standard_normal(variance.shape)
        layer.moving_mean.assign_add(noise * np.sqrt(variance))
        layer.moving_variance.assign(variance * rng.uniform(0.8, 1.25))


def with_gates(model, seed):
    return l0keras.sparsify(model, l0=L0, droprate_init=0.05, seed=seed)


def close_half(model, rng):
    """Closes half of the gates and sets the others to values in (0, 1].

    The gates do not sample any more. At least one of each vector stays open.
    """
    for gate in l0keras.gates_of(model):
        (units,) = gate.log_alpha.shape
        values = rng.uniform(-2.0, 4.0, units)
        shut = rng.random(units) < 0.5
        shut[rng.integers(units)] = False
        gate.log_alpha.assign(np.where(shut, -4.5, values))
        gate.trainable = False
    for weight in model.trainable_weights:
        if len(weight.shape) > 1:
            # Gates and ReLU leave about an eighth of the variance; without
            # normalization layers little would arrive at the end.
            weight.assign(2.5 * weight)


# === Steps ===


def _outputs(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def _train(model, images, rng):
    labels = rng.integers(0, model.output_shape[-1], len(images))
    model.compile(
        keras.optimizers.SGD(1e-3, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # To compile a function takes longer than to run it once.
        run_eagerly=True,
    )
    history = model.fit(images, labels, batch_size=len(images), verbose=0)
    return history.history["loss"][0]


def _litert_bytes(model):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "dense.tflite")
        with quiet():
            model.export(path, format="litert", verbose=False)
        return os.path.getsize(path)


# === Checks ===


def _wrong_widths(groups, gated, stripped):
    """The layers with more or fewer channels than open gates.

    Counts on the layers' outputs, not by the graph that cut them.
    """
    gates = {gate.name: gate for gate in l0keras.gates_of(gated)}
    left = {layer.name: layer for layer in stripped.layers}
    wrong = []
    for group in groups:
        gate = gates.get(f"{group.name}_gate")
        for name in group.makers if gate else ():
            before = gated.get_layer(name).output.shape[-1]
            after = left[name].output.shape[-1] if name in left else 0
            if before == group.size and after != gate.count_open():
                wrong.append(
                    f"'{name}' has {after} channels, {gate.count_open()} of "
                    f"{before} gates are open"
                )
    if l0keras.gates_of(stripped):
        wrong.append("gates stayed in the stripped model")
    return wrong


def _changes(stripped):
    """The changes that stripping for a second time would make."""
    again = l0keras.strip(stripped)
    if again.get_config() != stripped.get_config():
        return ["strip finds something to cut in its own result"]
    for old, new in zip(stripped.weights, again.weights, strict=True):
        if not np.array_equal(old, new):
            return [f"strip changes '{old.path}' of its own result"]
    return []
