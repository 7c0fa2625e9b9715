import keras
import numpy as np
import pytest

from l0keras.layers import L0EinsumDense
from tests.layers.gated_layer_tests import GatedLayerTests
from tests.layers.gated_layer_tests import numpy


class TestL0EinsumDense(GatedLayerTests):
    layer_class = L0EinsumDense
    plain_class = keras.layers.EinsumDense
    default_granularity = "input"
    variants = [
        (
            {"equation": "ab,bc->ac", "output_shape": 4, "bias_axes": "c"},
            (6, 5),
        ),
        (
            {
                "equation": "abc,cd->abd",
                "output_shape": (2, 4),
                "bias_axes": "bd",
                "activation": "sigmoid",
            },
            (3, 2, 5),
        ),
        (
            {
                "equation": "...x,xy->...y",
                "output_shape": 3,
                "activation": "tanh",
            },
            (2, 3, 2, 4),
        ),
        (
            # As of the heads of an attention.
            {
                "equation": "abc,cde->abde",
                "output_shape": (None, 2, 3),
                "bias_axes": "de",
            },
            (2, 3, 4),
        ),
        (
            {
                "equation": "abcd,cde->abe",
                "output_shape": (None, 5),
                "bias_axes": "e",
                "activation": "relu",
            },
            (2, 3, 2, 4),
        ),
        (
            # One kernel for each index of b.
            {
                "equation": "abc,bcd->abd",
                "output_shape": (3, 2),
                "bias_axes": "d",
            },
            (4, 3, 2),
        ),
        # A bias that is not of the gated units.
        (
            {
                "equation": "abc,cd->abd",
                "output_shape": (3, 4),
                "bias_axes": "b",
            },
            (2, 3, 2),
        ),
    ]
    other_arguments = {
        "equation": "ab,bc->ac",
        "output_shape": (3,),
        "activation": "relu",
        "bias_axes": "c",
        "kernel_initializer": "he_normal",
        "bias_initializer": "ones",
        "kernel_regularizer": "l1",
        "bias_regularizer": "l2",
        "kernel_constraint": "non_neg",
        "bias_constraint": "max_norm",
        "lora_rank": None,
        "lora_alpha": None,
        "gptq_unpacked_column_size": None,
        "quantization_config": None,
    }

    def gate(self, plain, granularity, inputs, gates):
        if granularity != "output" or plain.bias_axes != "b":
            return super().gate(plain, granularity, inputs, gates)
        kernel, bias = plain.get_weights()
        gated = self.with_weights(plain, inputs.shape, [kernel * gates, bias])
        return numpy(gated(inputs))


@pytest.mark.parametrize(
    "granularity, equation, output_shape",
    [
        # The input's last axis is kept, or is none of the kernel's.
        ("input", "abc,bd->adc", (4, 3)),
        ("input", "ab,b->ab", 3),
        ("input", "ab...,bc->ac...", 4),
        # The output's last axis comes from the input alone.
        ("output", "abc,bd->adc", (4, 3)),
        ("output", "ab...,bc->ac...", 4),
    ],
)
def test_refuses_equations_without_the_gated_axis(
    granularity, equation, output_shape
):
    shape = (2, 3) if equation == "ab,b->ab" else (2, 5, 3)
    layer = L0EinsumDense(equation, output_shape, granularity=granularity)
    with pytest.raises(
        ValueError, match="`equation`.*`granularity`.*equation='a"
    ):
        layer.build(shape)
    # Gates on single weights need no such axis.
    layer = L0EinsumDense(equation, output_shape, granularity="weight")
    assert layer(np.ones(shape, "float32")).shape[0] == 2


def test_passes_keras_own_errors_on():
    with pytest.raises(ValueError, match="Invalid einsum equation"):
        L0EinsumDense("ab->ac", 3).build((2, 3))
