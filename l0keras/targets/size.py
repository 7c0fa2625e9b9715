import re

import keras

from l0keras.gates import gates_of
from l0keras.graph.count_macs import macs_by_layer
from l0keras.graph.groups import channel_groups
from l0keras.graph.trace import trace
from l0keras.targets.files import Files
from l0keras.targets.target import OF_FILES
from l0keras.targets.target import Target


def size_of(
    model: keras.Model, target: Target, representative_data=None
) -> float | dict[str, float]:
    """Measures what a target is about, on a plain model.

    Weights, multiply-accumulates and channels are counted. For `"bytes"` and
    `"latency"` the LiteRT file is written, into a temporary folder, and
    weighed or timed; it is not compared with the model. Microseconds are
    those of the best of many rounds; on a busy machine only those of one call
    of `sizes_of` can be compared.

    Args:
        model: a built `keras.Model` without gates, such as `l0keras.strip`
            returns. It is only read.
        target: a `Target`. Its number does not matter.
        representative_data: examples of inputs as in
            `l0keras.export_tflite`, for `"int8"` and `"int16x8"`. Without,
            random ones do: bytes and times do not depend on them. But times
            depend on sizes: for latencies of models with free sizes the
            first example says at which.

    Returns:
        The size, in weights, multiply-accumulates, channels, bytes or
        microseconds; for `each` a dictionary from names of layers to such
        numbers, without layers that have none.

    Raises:
        ValueError: `model` has gates or no graph, or is not built; no layer
            that matches `where` has any of what is counted; shapes are not
            fixed, for multiply-accumulates, or without data for latencies;
            see also `export_tflite`.
        ImportError: ai-edge-litert is not installed, for latencies.
        RuntimeError: LiteRT does not support an operation.

    Example:

    >>> size_of(model, Target("bytes", 0.5, quantization="float16"))
    """
    check_target(target)
    check_plain(model)
    if target.of in OF_FILES:
        return _measured([model], target, representative_data)[0]
    if target.of == "params" and target.where is None and not target.each:
        return model.count_params()
    if target.of == "units":
        return _units(model, target)
    counts = _params(model) if target.of == "params" else macs_by_layer(model)
    found = chosen(target, counts)
    return found if target.each else sum(found.values())


def sizes_of(models, target: Target, representative_data=None) -> list:
    """Measures what a target is about on several models, see `size_of`.

    Their files are timed in turns: other work of the machine slows all of
    them alike, so the ratios of latencies can be trusted.

    Args:
        models: a list of models, such as a dense one and one cut from it.
        target, representative_data: as in `size_of`.

    Returns:
        A list of what `size_of` returns.

    Raises:
        ValueError, ImportError, RuntimeError: as `size_of`.
    """
    check_target(target)
    if not isinstance(models, (list, tuple)) or not models:
        raise ValueError(
            "Argument `models` must be a list of at least one model. "
            f"Received: models={models!r}"
        )
    if target.of not in OF_FILES:
        return [size_of(model, target) for model in models]
    for model in models:
        check_plain(model)
    return _measured(models, target, representative_data)


def check_target(target):
    """Raises a `ValueError` for what is no `Target`."""
    if not isinstance(target, Target):
        raise ValueError(
            "Argument `target` must be an l0keras.targets.Target. "
            f"Received: target={target!r}"
        )


def check_plain(model):
    """Raises a `ValueError` for a model with gates, or what is no model."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Argument `model` must be a Keras model. Received: {model!r}"
        )
    gates = gates_of(model)
    if gates:
        raise ValueError(
            "Argument `model` must have no gates: closed ones make it no "
            "smaller before `l0keras.strip` cuts. "
            f"Received: model '{model.name}' with {len(gates)} gates"
        )


def chosen(target, sizes):
    """The sizes of the layers that a target is about, by their names.

    Args:
        target: a `Target`.
        sizes: a dictionary from names of layers to numbers.

    Raises:
        ValueError: none of these layers has a size above 0.
    """
    found = {
        name: size
        for name, size in sizes.items()
        if size and (target.where is None or re.search(target.where, name))
    }
    if not found:
        raise ValueError(
            f"Argument `target` must be about layers with {target.of}. "
            f"Received: {target!r}, but only these layers have some: "
            f"{', '.join(n for n, size in sizes.items() if size) or 'none'}"
        )
    return found


def _params(model):
    # A shared layer counts once.
    return {
        node.name: node.layer.count_params()
        for node in trace(model, baked=False).nodes
        if getattr(node.layer, "weights", None)
    }


def _units(model, target):
    groups = [group for group in channel_groups(model) if not group.fixed]
    by_maker = {}
    for group in groups:
        for maker in group.makers:
            by_maker[maker] = by_maker.get(maker, 0) + group.size
    found = chosen(target, by_maker)
    if target.each:
        return found
    return sum(
        group.size
        for group in groups
        if not found.keys().isdisjoint(group.makers)
    )


def _measured(models, target, representative_data):
    files = Files(target, models[0], representative_data)
    return files.sizes([files.content(model) for model in models])
