import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from tests.graph.rules import checks

# Equation, output shape, axes of the bias, shape of the input, and the rank of
# the output; the channels of the input are 5 each time, those out of it 6.
EQUATIONS = [
    ("ab,bc->ac", 6, "c", (5,)),
    ("abc,cd->abd", (None, 6), "d", (4, 5)),
    ("abc,cd->abd", (None, 6), None, (4, 5)),
    ("...x,xy->...y", 6, "y", (4, 3, 5)),
    ("abc,cde->abde", (None, 3, 6), "e", (4, 5)),
    ("abc,cde->abde", (None, 3, 6), "de", (4, 5)),
    ("abc,ced->abde", (None, 3, 6), "ed", (4, 5)),
    ("abc,cde->abde", (None, 3, 6), "d", (4, 5)),
    ("abc,cde->abde", (None, 3, 6), None, (4, 5)),
    ("abcd,cde->abe", (None, 6), "e", (4, 3, 5)),
    ("abcd,dce->abe", (None, 6), None, (4, 3, 5)),
    ("abc,bcd->abd", (4, 6), "bd", (4, 5)),
    ("abc,bcd->abd", (4, 6), "d", (4, 5)),
    ("abc,cd->adb", (6, 4), "d", (4, 5)),
]


def model_of(equation, output_shape, bias_axes, shape, **kwargs):
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Dense(5, name="before", activation="relu"),
            layers.EinsumDense(
                equation,
                output_shape,
                bias_axes=bias_axes,
                name="einsum",
                **kwargs,
            ),
            layers.Dense(3, name="after"),
        ]
    )


def prepare(model, rng):
    """Closes 2 of 5 channels in front and 2 of 6 behind."""
    checks.spread(model, rng)
    before = checks.weights_of(model.get_layer("before"))
    before["kernel"][:, [0, 3]] = 0.0
    before["bias"][[0, 3]] = [-1.0, 0.7]
    checks.assign(model.get_layer("before"), before)
    after = checks.weights_of(model.get_layer("after"))
    after["kernel"][[1, 4]] = 0.0
    checks.assign(model.get_layer("after"), after)


def folds(equation, bias_axes):
    """Whether the bias may take in a constant along all axes it needs."""
    left, output = equation.split("->")
    kernel = left.split(",")[1]
    return set(kernel) & set(output[:-1]) <= set(bias_axes or "")


@pytest.mark.parametrize("case", EQUATIONS[:-1], ids=str)
def test_channels_on_both_sides(case, tmp_path):
    rng = np.random.default_rng(0)
    model = model_of(*case)
    prepare(model, rng)
    stripped = checks.check(model, rng, tmp_path)
    before = 3 if folds(case[0], case[2]) else 4
    assert stripped.get_layer("before").units == before
    old = model.get_layer("einsum").kernel.shape
    wanted = [{5: before, 6: 4}.get(size, size) for size in old]
    assert list(stripped.get_layer("einsum").kernel.shape) == wanted
    assert stripped.get_layer("after").kernel.shape == (4, 3)


@pytest.mark.parametrize("case", EQUATIONS[:-1], ids=str)
def test_closed_outputs_are_constants(case):
    rng = np.random.default_rng(0)
    model = model_of(*case, activation="tanh")
    prepare(model, rng)
    arrays = checks.weights_of(model.get_layer("einsum"))
    equation = case[0]
    left, output = equation.split("->")
    axis = left.split(",")[1].index(output[-1])
    np.moveaxis(arrays["kernel"], axis, 0)[[0, 2]] = 0.0
    if "bias" in arrays and arrays["bias"].shape[-1] == 6:
        # One that is the same everywhere.
        arrays["bias"][..., 2] = 0.3
    checks.assign(model.get_layer("einsum"), arrays)
    constants = checks.constants_of(model).nodes[1].output.constants
    known = list(np.flatnonzero(~np.isnan(constants)))
    # A bias along two axes differs between positions.
    wanted = [2] if len(case[2] or "") == 2 else [0, 2]
    assert known == ([] if case[2] == "d" and output == "abde" else wanted)
    stripped = checks.check(model, rng)
    kept = 4 - len(known)
    assert stripped.get_layer("after").kernel.shape == (kept, 3)


def test_a_softmax_needs_all_units():
    rng = np.random.default_rng(0)
    model = model_of(*EQUATIONS[1], activation="softmax")
    prepare(model, rng)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("einsum").kernel.shape == (3, 6)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("case", EQUATIONS[:-1], ids=str)
def test_the_scale_of_a_gate_is_folded(case, place):
    rng = np.random.default_rng(0)
    gate = l0keras.HardConcreteGate(axis=-1)
    model = model_of(*case)
    rest = list(model.layers)
    # A gate takes the way back first, so the layer before it must refuse.
    if place == "before":
        rest[0].activation = keras.activations.tanh
    rest.insert(1 if place == "before" else 2, gate)
    model = keras.Sequential([keras.Input(case[3]), *rest])
    prepare(model, rng)
    log_alpha = rng.uniform(-2.0, 3.0, gate.log_alpha.shape)
    log_alpha[2] = -5.0
    gate.log_alpha.assign(log_alpha)
    stripped = checks.check(model, rng)
    assert not any(isinstance(x, layers.Rescaling) for x in stripped.layers)


def test_two_in_a_row(tmp_path):
    """The channels between them are the last axis of four."""
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((4, 5)),
            layers.EinsumDense(
                "abc,cde->abde", (None, 3, 6), bias_axes="de", name="up"
            ),
            layers.EinsumDense(
                "abde,def->abf", (None, 2), bias_axes="f", name="down"
            ),
        ]
    )
    checks.spread(model, rng)
    arrays = checks.weights_of(model.get_layer("down"))
    arrays["kernel"][:, [0, 2, 3]] = 0.0
    checks.assign(model.get_layer("down"), arrays)
    stripped = checks.check(model, rng, tmp_path)
    assert stripped.get_layer("up").kernel.shape == (5, 3, 3)
    assert stripped.get_layer("down").kernel.shape == (3, 3, 2)


@pytest.mark.parametrize(
    "equation, output_shape, shape, reason",
    [
        (*EQUATIONS[-1][:2], EQUATIONS[-1][3], "makes its last axis"),
        ("abc,bd->adc", (6, 5), (4, 5), "does not sum over the channels"),
        ("abc,c->abc", (4, 5), (4, 5), "does not sum over the channels"),
        ("ab...,bc->ac...", 6, (4, 5), "another axis"),
    ],
)
def test_barriers(equation, output_shape, shape, reason):
    layer = layers.EinsumDense(equation, output_shape, name="einsum")
    model = keras.Sequential([keras.Input(shape), layer])
    assert reason in checks.reasons(model)["einsum"]
