import contextlib

import numpy as np


@contextlib.contextmanager
def hold_gates(gates, values):
    """A context in which gates are given numbers, whatever they have learned.

    Args:
        gates: `HardConcreteGate` layers. After it they are as before.
        values: for each of them a number or an array of the shape of its
            gates.
    """
    before = [gate.held for gate in gates]
    try:
        for gate, value in zip(gates, values, strict=True):
            gate.held = np.asarray(value, "float32")
        yield
    finally:
        for gate, held in zip(gates, before, strict=True):
            gate.held = held


def open_gates(gates):
    """A context in which gates act as 1, whatever they have learned.

    Args:
        gates: `HardConcreteGate` layers. After it they are as before.
    """
    return hold_gates(gates, [1.0] * len(gates))
