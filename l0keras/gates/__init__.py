"""Hard-concrete gates as Keras layers."""

from l0keras.gates.gate_generator import GateGenerator
from l0keras.gates.gate_generator import check_dependence
from l0keras.gates.hard_concrete_gate import HardConcreteGate
from l0keras.gates.hard_concrete_gate import check_gate_arguments
from l0keras.gates.hard_concrete_gate import log_alpha_of
from l0keras.gates.open_gates import open_gates
from l0keras.gates.shared_gate import SharedGate
from l0keras.gates.shared_gate import gates_of

__all__ = [
    "GateGenerator",
    "HardConcreteGate",
    "SharedGate",
    "check_dependence",
    "check_gate_arguments",
    "gates_of",
    "log_alpha_of",
    "open_gates",
]
