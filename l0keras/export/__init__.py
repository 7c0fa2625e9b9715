"""From a Keras model to a LiteRT file, and the proof that it works."""

from l0keras.export.bridge.cluster import cluster
from l0keras.export.bridge.prune_low_magnitude import prune_low_magnitude
from l0keras.export.bridge.quantize_aware import quantize_aware
from l0keras.export.bridge.to_tf_keras import to_tf_keras
from l0keras.export.litert.compare import ROUNDING
from l0keras.export.litert.compare import ROUNDING_FACTOR
from l0keras.export.litert.compare import random_inputs
from l0keras.export.litert.measure_latency import measure_latency
from l0keras.export.litert.precision import Precision
from l0keras.export.litert.quantization import QUANTIZATIONS
from l0keras.export.litert.quantization import check_quantization
from l0keras.export.litert.quiet import quiet
from l0keras.export.litert.representative import sample_shapes
from l0keras.export.litert.run_tflite import run_tflite
from l0keras.export.litert.signature import signature
from l0keras.export.micro.c_array import write_c_array
from l0keras.export.micro.micro_file import MicroFile
from l0keras.export.tflite import export_tflite
from l0keras.export.tflite_file import TFLiteFile

__all__ = [
    "MicroFile",
    "Precision",
    "QUANTIZATIONS",
    "ROUNDING",
    "ROUNDING_FACTOR",
    "TFLiteFile",
    "check_quantization",
    "cluster",
    "export_tflite",
    "measure_latency",
    "prune_low_magnitude",
    "quantize_aware",
    "quiet",
    "random_inputs",
    "run_tflite",
    "sample_shapes",
    "signature",
    "to_tf_keras",
    "write_c_array",
]
