"""Hard-concrete gates as Keras layers."""

from l0keras.gates.gates_of import gates_of
from l0keras.gates.hard_concrete_gate import HardConcreteGate
from l0keras.gates.shared_gate import SharedGate

__all__ = ["HardConcreteGate", "SharedGate", "gates_of"]
