"""Gates: layers that learn which units a network can do without."""

from l0keras.gates.gates_of import gates_of
from l0keras.gates.hard_concrete_gate import HardConcreteGate

__all__ = ["HardConcreteGate", "gates_of"]
