"""LiteRT's quantizer on a float file, for the process of `worker`."""

import collections
import os
import re

import numpy as np

from l0keras.export.litert.precision import Precision
from l0keras.export.litert.unsupported import layers_of

_METHODS = {
    "min_max": "MIN_MAX_UNIFORM_QUANT",
    "mse": "MSE",
    "octav": "OCTAV",
    "gptq": "GPTQ",
}
_BITS = {"int8": 8, "int16": 16}

# An operation of a file: what the quantizer calls it, or `None`; the names of
# its outputs as the quantizer has them; the shape of its weights, or `None`;
# the names of its constants; and whether it is in a loop.
_Operation = collections.namedtuple(
    "_Operation", "name scope weights constants in_loop"
)


def quantize(path, rules, layers, examples):
    """Quantizes a float file in its place.

    Args:
        path: the path of the file.
        rules: a `Rules`. Those of operations that belong to no layer are
            looked for in the names of their outputs.
        layers: the names of the model's layers.
        examples: a list of dictionaries of arrays by the names of the inputs,
            or `None` for rules that need no data.

    Returns:
        What stays in floats although a rule says otherwise: pairs of a layer
        and a reason.

    Raises:
        ValueError: no rule can be followed.
    """
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.qtyping import TFLOperationName
    from litert_quantizer.quantizer import Quantizer
    from litert_quantizer.recipe_manager import RecipeManager

    recipe = RecipeManager()
    kept, followed = [], []
    for op in _operations(path):
        # An output of the model has lost the name of its layer.
        place = ";".join([op.scope, *op.constants])
        names = layers_of(place, layers) or [op.scope]
        precision = rules.find(names)
        reason = None
        if precision is not None:
            reason = _add(recipe, op, precision)
            if reason and op.weights:
                kept.append(("/".join(reversed(names)), reason))
        follows = precision is not None and not reason
        followed.append(precision.compute if follows else None)
    if not any(followed):
        raise ValueError(
            "it can follow none of the rules. "
            + "; ".join(f"{name}: {why}" for name, why in kept)
        )
    if len(set(followed)) == 1 and followed[0] in _BITS:
        # Nothing but integers in between, so none need be floats.
        for name in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
            _static(recipe, name, ".*", Precision(compute=followed[0]))
    measured = None
    if recipe.need_calibration():
        calibrator = Calibrator(path, num_threads=1, qsv_update_func=_widest)
        calibrator.calibrate({"serving_default": examples}, recipe)
        measured = calibrator.get_model_qsvs()
    tool = Quantizer(path, recipe.get_quantization_recipe())
    result = tool.quantize(measured, enable_progress_report=False)
    draft = f"{path}.quantized"
    result.export_model(draft)
    _free_sizes(draft)
    os.replace(draft, path)
    return kept


def _free_sizes(path):
    """Tells what conversions make which sizes are free: the tool does not."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(path)
    changed = False
    for graph in model.subgraphs:
        for op in graph.operators:
            if len(op.inputs) != 1 or len(op.outputs) != 1:
                continue
            pair = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
            for one, other in (pair, pair[::-1]):
                if tuple(one.shape) != tuple(other.shape):
                    continue
                if (
                    other.shapeSignature is None
                    and one.shapeSignature is not None
                ):
                    other.shapeSignature = one.shapeSignature
                    changed = True
    if changed:
        flatbuffer_utils.write_model(model, path)


def _widest(known, new):
    """The range of all examples; the tool itself forgets the first ones."""
    from litert_quantizer.utils import qsv_utils

    if not known:
        return new
    found = qsv_utils.min_max_update(known, new)
    if "hessian" in known:
        merged = qsv_utils.gptq_and_moving_average_update(known, new)
        found = {**merged, **found}
    return found


def _operations(path):
    """The operations of a file that make floats."""
    from litert_quantizer.qtyping import TensorType
    from litert_quantizer.utils import tfl_flatbuffer_utils as utils

    model = utils.read_model(path)
    found = []
    for number, graph in enumerate(model.subgraphs):

        def of_floats(indices):
            tensors = [graph.tensors[i] for i in indices if i >= 0]
            return [one for one in tensors if one.type == TensorType.FLOAT32]

        for op in graph.operators:
            if not of_floats(op.outputs):
                continue
            constants = [
                one
                for one in of_floats(op.inputs)
                if model.buffers[one.buffer].data is not None
            ]
            shapes = [
                tuple(int(size) for size in one.shape)
                for one in constants
                if len(one.shape) > 1
            ]
            code = model.operatorCodes[op.opcodeIndex].builtinCode
            found.append(
                _Operation(
                    utils.TFL_OP_CODE_TO_NAME.get(code),
                    utils.get_op_scope(op, graph.tensors),
                    max(shapes, key=np.prod, default=None),
                    [utils.get_tensor_name(one) for one in constants],
                    number > 0,
                )
            )
    return found


def _add(recipe, op, precision):
    """Has an operation quantized; returns why not, if it cannot be."""
    if op.name is None:
        return "LiteRT's quantizer does not know its operation"
    if precision.integers and op.in_loop:
        return "no ranges are measured in loops"
    if op.weights is None:
        if not precision.integers:
            return "it has no weights"
        precision = Precision(compute=precision.compute)
    if precision.block and op.weights[-1] % precision.block:
        return (
            f"its {op.weights[-1]} inputs are no multiple of the block, "
            f"{precision.block}"
        )
    scope = f"^{re.escape(op.scope)}$"
    try:
        if precision.integers:
            _static(recipe, op.name, scope, precision)
        else:
            _weights(recipe, op.name, scope, precision)
    except ValueError:
        return f"there is no {op.name.value} of {precision}"
    return None


def _weights(recipe, name, scope, precision):
    from litert_quantizer.qtyping import QuantGranularity

    add = recipe.add_dynamic_config
    if precision.compute == "float32":
        add = recipe.add_weight_only_config
    granularity = QuantGranularity.CHANNELWISE
    if precision.block:
        granularity = QuantGranularity[f"BLOCKWISE_{precision.block}"]
    bits, algorithm = precision.weights, _algorithm(precision)
    add(scope, name, bits, granularity, algorithm_key=algorithm)


def _static(recipe, name, scope, precision):
    recipe.add_static_config(
        scope,
        name,
        _BITS[precision.compute],
        precision.weights,
        algorithm_key=_algorithm(precision),
    )


def _algorithm(precision):
    from litert_quantizer.algorithm_manager import AlgorithmName

    return AlgorithmName[_METHODS[precision.method]]
