"""The whole road of one model of the corpus, and what happened on it."""

import contextlib
import importlib.util
import os
import sys
import tempfile
import time
import traceback

import keras
import numpy as np
from keras.src.models.functional import Functional

import l0keras

# Not three: then TensorFlow may crash in gradients of convolutions.
EXAMPLES = 4
# How far outputs may differ, as a share of the largest.
TOLERANCE = 1e-5


def missing(entry):
    """The module that an entry needs and that is not there, or `None`."""
    if entry.needs and importlib.util.find_spec(entry.needs) is None:
        return entry.needs
    return None


def travel(entry, seed=0):
    """Takes a model through everything that is done with one.

    All weights are moved off their initial values. Gates are put on, and one
    step is trained. Half of each vector of gates, drawn at random, is closed,
    the others get random values in (0, 1]. The model is stripped, saved,
    loaded and stripped again; and shrunk.

    Args:
        entry: an `Entry` of the corpus.
        seed: an integer that fixes weights, inputs and gates.

    Returns:
        A dictionary for JSON:

        - `name`, `area`: those of the entry.
        - `params`: a dictionary with the numbers `before` and `after`.
        - `gates`: the numbers of `vectors`, of single `units` and of `open`
          ones.
        - `difference`: of outputs, as a share of the largest one: between
          the model and the one with open gates (`gated`), between that with
          half of its gates closed and the stripped one (`stripped`), the
          one from the file (`loaded`) and the shrunk one (`shrunk`).
        - `kept`: reasons of `l0keras.report`, a list of strings.
        - `notes`: what could not be tried, because the model does not allow
          it without this library either; a list of strings.
        - `seconds`: for each step.
        - `failed`: `None`, or a dictionary with the `step`, the `message`
          and the `line` of code.
    """
    row = {
        "name": entry.name,
        "area": entry.area,
        "params": {},
        "gates": {},
        "difference": {},
        "kept": [],
        "notes": [],
        "seconds": {},
        "failed": None,
    }
    step = _Steps(row["seconds"])
    try:
        _travel(entry, seed, row, step)
    except Exception as error:
        # A model may break anything.
        row["failed"] = {
            "step": step.name,
            "message": f"{type(error).__name__}: {error}",
            "line": _line(error),
        }
    return row


def stripped(entry, seed=0, examples=EXAMPLES):
    """A model after `strip` as on the road, but not trained and not checked.

    Args:
        entry, seed: as for `travel`.
        examples: the number of examples in the inputs.

    Returns:
        The stripped model, and random inputs for it.
    """
    rng = np.random.default_rng(seed)
    model = built(entry, rng, seed)
    inputs = inputs_for(entry, model, rng, examples)
    gated = with_gates(model, seed)
    close_half(gated, rng)
    return l0keras.strip(gated), inputs


def is_fine(entry, row):
    """Whether nothing failed and enough is cut, or cannot be."""
    if row["failed"]:
        return False
    return share(row) <= entry.limit


def verdict(entry, row):
    """What a row says of an entry, one line."""
    if is_fine(entry, row):
        return f"ok, {entry.inherent}" if entry.inherent else "ok"
    if entry.known:
        return f"known, {entry.known}"
    if row["failed"]:
        return f"fails in {row['failed']['step']}: {row['failed']['message']}"
    if not row["gates"]["vectors"]:
        return "no gates"
    return f"{share(row):.0%} left"


def share(row):
    """The share of the parameters that are left."""
    return row["params"]["after"] / row["params"]["before"]


class Difference(ValueError):
    """Outputs that should be the same and are not."""


class _Steps:
    """The name of the step that is done now, and the seconds of all."""

    def __init__(self, seconds):
        self.name = None
        self._seconds = seconds

    @contextlib.contextmanager
    def __call__(self, name):
        self.name = name
        start = time.perf_counter()
        yield
        self._seconds[name] = round(time.perf_counter() - start, 2)


def _travel(entry, seed, row, step):
    rng = np.random.default_rng(seed)
    with step("build"):
        model = built(entry, rng, seed)
        inputs = inputs_for(entry, model, rng)
        expected = outputs(model, inputs)
    row["params"]["before"] = model.count_params()
    with step("sparsify"):
        gated = with_gates(model, seed)
        _compare(row, "gated", outputs(gated, inputs), expected)
    with step("train"):
        try:
            train(gated, inputs)
        except Exception as error:
            if _trains(entry, inputs):
                raise
            row["notes"].append(f"not trained: {_first_line(error)}")
    with step("close"):
        close_half(gated, rng)
        gates = l0keras.gates_of(gated)
        row["gates"] = {
            "vectors": len(gates),
            "units": sum(int(np.prod(gate.log_alpha.shape)) for gate in gates),
            "open": sum(gate.count_open() for gate in gates),
        }
        expected = outputs(gated, inputs)
    with step("strip"):
        stripped = l0keras.strip(gated)
        row["params"]["after"] = stripped.count_params()
        _compare(row, "stripped", outputs(stripped, inputs), expected)
    with step("report"):
        kept = l0keras.report(gated, stripped).kept
        row["kept"] = [f"'{k['layer']}' {k['reason']}" for k in kept]
    with step("load"):
        try:
            loaded = reload(stripped, entry)
            results = outputs(loaded, inputs)
            _compare(row, "loaded", results, expected)
        except Exception as error:
            if _loads(entry, model, inputs):
                raise
            row["difference"].pop("loaded", None)
            row["notes"].append(f"not loaded: {_first_line(error)}")
    with step("strip again"):
        _check_the_same(l0keras.strip(stripped), stripped)
    if gates:
        with step("shrink"):
            l0keras.close_gates(gated, below=1.0)
            shrunk = l0keras.shrink(gated, check=False)
            _compare(row, "shrunk", outputs(shrunk, inputs), expected)


# === Inputs, weights, gates ===


def built(entry, rng, seed):
    """The model of an entry, with weights that hide nothing."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    model = entry.build()
    move(model, rng)
    return model


def with_gates(model, seed):
    return l0keras.sparsify(model, l0=1e-6, droprate_init=0.02, seed=seed)


def inputs_for(entry, model, rng, examples=EXAMPLES):
    """Random inputs of the model's own signature, or those of the entry."""
    if entry.inputs is not None:
        return entry.inputs(rng, examples)

    def draw(tensor):
        shape = (examples, *(n or entry.sizes for n in tensor.shape[1:]))
        if tensor.dtype == "bool":
            return rng.random(shape) < 0.7
        high = entry.high
        if isinstance(high, dict):
            high = high.get(tensor.name)
        elif "int" not in tensor.dtype:
            high = None
        if high is not None:
            return rng.integers(0, high, shape).astype(tensor.dtype)
        return rng.standard_normal(shape).astype(tensor.dtype)

    if isinstance(model, keras.Sequential):
        return draw(model.inputs[0])
    return keras.tree.map_structure(draw, model.input)


def move(model, rng):
    """Moves weights and statistics off their initial values.

    Nothing is to agree by chance: where all are zeros or ones, a channel more
    or less changes nothing.
    """
    for weight in model.trainable_weights:
        if len(weight.shape) < 2 or np.ptp(weight) == 0:
            weight.assign_add(0.2 * rng.standard_normal(weight.shape))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign_add(0.2 * rng.standard_normal(shape))
            layer.moving_variance.assign(
                layer.moving_variance * rng.uniform(0.6, 1.6, shape)
            )


def close_half(model, rng):
    """Closes half of each vector of gates, and sets the others to (0, 1]."""
    for gate in l0keras.gates_of(model):
        shape = gate.log_alpha.shape
        values = rng.uniform(-2.0, 4.0, shape).ravel()
        closed = rng.permutation(values.size)[: values.size // 2]
        values[closed] = -4.5
        gate.log_alpha.assign(values.reshape(shape))
        gate.trainable = False


# === Steps ===


def outputs(model, inputs):
    """All outputs, a list of arrays; what is drawn is drawn alike."""
    for variable in model.non_trainable_variables:
        if variable.name == "seed_generator_state":
            variable.assign([7, 0])
    results = model(keras.tree.map_structure(_tensor, inputs), training=False)
    return [
        keras.ops.convert_to_numpy(result)
        for result in keras.tree.flatten(results)
    ]


def train(model, inputs):
    """One step of gradient descent, towards small outputs."""
    inputs = keras.tree.map_structure(_tensor, inputs)
    targets = keras.tree.map_structure(
        keras.ops.zeros_like, model(inputs, training=False)
    )
    model.compile(
        keras.optimizers.SGD(1e-3, clipnorm=1.0),
        keras.tree.map_structure(lambda _: "mse", targets),
        # Tasks of keras-hub bring some that want whole numbers as targets.
        weighted_metrics=[],
        # To compile a function takes longer than to run it once.
        run_eagerly=True,
    )
    loss = model.train_on_batch(inputs, targets)
    if not np.all(np.isfinite(loss)):
        raise ValueError(f"the loss of a training step is {loss}")


def reload(model, entry):
    """The model that comes back from a file."""
    module = vars(sys.modules[entry.build.__module__])
    own = {
        name: value
        for name, value in module.items()
        if getattr(value, "__module__", None) == entry.build.__module__
    }
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        return keras.saving.load_model(
            path, custom_objects=own, compile=False, safe_mode=False
        )


def _tensor(array):
    return keras.ops.convert_to_tensor(array)


def _trains(entry, inputs):
    try:
        train(entry.build(), inputs)
    except Exception:
        return False
    return True


def _loads(entry, model, inputs):
    """Whether a model that was never here comes back from a file as it was.

    That is, from the configurations of its layers: the one of a class may say
    less than them, but nothing of fewer channels.
    """
    expected = outputs(model, inputs)
    row = {"difference": {}}
    try:
        if isinstance(model, Functional):
            model = keras.Model(model.input, model.output)
        _compare(row, "loaded", outputs(reload(model, entry), inputs), expected)
    except Exception:
        return False
    return True


# === Checks ===


def _compare(row, name, results, expected):
    shapes = [[array.shape for array in side] for side in (results, expected)]
    if shapes[0] != shapes[1]:
        raise Difference(f"{name}: outputs {shapes[0]} instead of {shapes[1]}")
    difference = max(map(_relative, results, expected))
    row["difference"][name] = difference
    # `not <=` also refuses NaN.
    if not difference <= TOLERANCE:
        raise Difference(f"{name}: outputs differ by {difference:.1e}")


def _relative(result, expected):
    if not np.all(np.isfinite(expected)):
        return float("nan")
    result, expected = (a.astype("float64") for a in (result, expected))
    largest = np.max(np.abs(expected))
    return float(np.max(np.abs(result - expected)) / (largest or 1.0))


def _check_the_same(again, stripped):
    shapes = [
        [tuple(weight.shape) for weight in model.weights]
        for model in (again, stripped)
    ]
    if shapes[0] != shapes[1]:
        raise Difference("strip finds something to cut in its own result")
    for new, old in zip(again.weights, stripped.weights):
        if not np.array_equal(new, old):
            raise Difference(f"strip changes '{old.path}' of its own result")


def _first_line(error):
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _line(error):
    """The last line of this repository's code that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    own = [frame for frame in frames if frame.filename.startswith(root)]
    own = [frame for frame in own if ".venv" not in frame.filename]
    for frame in reversed(own):
        path = os.path.relpath(frame.filename, root)
        return f"{path}:{frame.lineno} {frame.line}"
    return ""
