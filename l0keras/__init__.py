"""Learned sparsity for Keras 3: train, strip, deploy, and see the proof."""

# isort: off
from l0keras.cli import at_once as _at_once  # noqa: F401

# isort: on
from l0keras import callbacks
from l0keras import export
from l0keras import graph
from l0keras import hard_concrete
from l0keras import layers
from l0keras import models
from l0keras import optimizers
from l0keras import regularizers
from l0keras import targets
from l0keras.compression.compress import compress
from l0keras.compression.compressed import Compressed
from l0keras.cutting.cut import cut
from l0keras.cutting.groups_to_keep import groups_to_keep
from l0keras.export import export_tflite
from l0keras.gates import GateBudget
from l0keras.gates import GateGenerator
from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.gates import gates_of
from l0keras.graph import channel_groups
from l0keras.graph import register_channel_rule
from l0keras.graph.count_macs import count_macs
from l0keras.graph.weight_groups import weight_groups
from l0keras.placement.place_gates import place_gates
from l0keras.placement.sparsify import sparsify
from l0keras.regularizers.weight_groups import WeightGroups
from l0keras.reporting.accounting import architecture
from l0keras.reporting.report import report
from l0keras.shrinking.close_gates import close_gates
from l0keras.shrinking.shrink import shrink
from l0keras.shrinking.shrinking import Shrinking
from l0keras.stripping.strip import strip
from l0keras.version import __version__

__all__ = [
    "Compressed",
    "GateBudget",
    "GateGenerator",
    "HardConcreteGate",
    "SharedGate",
    "Shrinking",
    "WeightGroups",
    "__version__",
    "architecture",
    "callbacks",
    "channel_groups",
    "close_gates",
    "compress",
    "count_macs",
    "cut",
    "export",
    "export_tflite",
    "gates_of",
    "graph",
    "groups_to_keep",
    "hard_concrete",
    "layers",
    "models",
    "optimizers",
    "place_gates",
    "register_channel_rule",
    "regularizers",
    "report",
    "shrink",
    "sparsify",
    "strip",
    "targets",
    "weight_groups",
]
