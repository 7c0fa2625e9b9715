"""Callbacks: watching gates, averaged weights, exact resuming."""

from l0keras.callbacks.averaged_weights import EvaluateAveraged
from l0keras.callbacks.averaged_weights import averaged_weights
from l0keras.callbacks.checkpoint import Checkpoint
from l0keras.callbacks.checkpoint import CheckpointError
from l0keras.callbacks.connection_logger import ConnectionLogger
from l0keras.callbacks.gate_logger import GateLogger
from l0keras.callbacks.gate_logger import named_gates
from l0keras.callbacks.group_logger import GroupLogger
from l0keras.callbacks.raise_on_nan import NonFiniteError
from l0keras.callbacks.raise_on_nan import RaiseOnNaN
from l0keras.callbacks.refresh_batch_norm import refresh_batch_norm
from l0keras.callbacks.rewire_storage import RewireStorage
from l0keras.callbacks.warn_open_gates import WarnOpenGates

# The former name.
TerminateOnNaN = RaiseOnNaN

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ConnectionLogger",
    "EvaluateAveraged",
    "GateLogger",
    "GroupLogger",
    "NonFiniteError",
    "RaiseOnNaN",
    "RewireStorage",
    "TerminateOnNaN",
    "WarnOpenGates",
    "averaged_weights",
    "named_gates",
    "refresh_batch_norm",
]
