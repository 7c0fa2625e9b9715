"""From a Keras model to a LiteRT file, and the proof that it works."""

from l0keras.export.cluster import cluster
from l0keras.export.export_tflite import TFLiteFile
from l0keras.export.export_tflite import export_tflite
from l0keras.export.measure_latency import measure_latency
from l0keras.export.prune_low_magnitude import prune_low_magnitude
from l0keras.export.quantize_aware import quantize_aware
from l0keras.export.run_tflite import run_tflite
from l0keras.export.signature import signature
from l0keras.export.to_tf_keras import to_tf_keras

__all__ = [
    "TFLiteFile",
    "cluster",
    "export_tflite",
    "measure_latency",
    "prune_low_magnitude",
    "quantize_aware",
    "run_tflite",
    "signature",
    "to_tf_keras",
]
