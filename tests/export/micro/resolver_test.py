import pathlib

import pytest

from l0keras.export.micro.resolver import ops_of
from l0keras.export.micro.resolver import resolver_name

FILES = pathlib.Path(__file__).parents[3] / "saved_models"


def test_names_as_the_resolver_has_them():
    """Those of micro_mutable_op_resolver.h that are not plain words."""
    names = {
        "ARG_MAX": "AddArgMax",
        "ADD_N": "AddAddN",
        "BATCH_MATMUL": "AddBatchMatMul",
        "CONV_2D": "AddConv2D",
        "CUMSUM": "AddCumSum",
        "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
        "L2_POOL_2D": "AddL2Pool2D",
        "PADV2": "AddPadV2",
        "RELU6": "AddRelu6",
        "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
        "SELECT_V2": "AddSelectV2",
        "SPACE_TO_BATCH_ND": "AddSpaceToBatchNd",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
    }
    assert {op: resolver_name(op) for op in names} == names


def test_the_operations_of_a_file():
    pytest.importorskip("tflite_micro")
    path = FILES / "mnist_lenet5_l0_sep" / "int8.tflite"
    found = ops_of(path.read_bytes())
    assert len(found) == 5 and {"CONV_2D", "GATHER"} < set(found)
