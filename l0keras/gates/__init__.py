"""Hard-concrete gates as Keras layers."""

from l0keras.gates.gate_budget import GateBudget
from l0keras.gates.gate_budget import check_steps
from l0keras.gates.gate_generator import GateGenerator
from l0keras.gates.gate_generator import check_dependence
from l0keras.gates.hard_concrete_gate import HardConcreteGate
from l0keras.gates.hard_concrete_gate import check_gate_arguments
from l0keras.gates.hard_concrete_gate import log_alpha_of
from l0keras.gates.hold_gates import hold_gates
from l0keras.gates.hold_gates import open_gates
from l0keras.gates.shared_gate import SharedGate
from l0keras.gates.shared_gate import gates_of

__all__ = [
    "GateBudget",
    "GateGenerator",
    "HardConcreteGate",
    "SharedGate",
    "check_dependence",
    "check_gate_arguments",
    "check_steps",
    "gates_of",
    "hold_gates",
    "log_alpha_of",
    "open_gates",
]
