"""Controllers with a multiplier, to compare `l0keras.GateBudget` with."""

from trainers.studies.multipliers.composed import Composed
from trainers.studies.multipliers.composed import calibrate
from trainers.studies.multipliers.lagrange import Lagrange
from trainers.studies.multipliers.multiplier import Multiplier
from trainers.studies.multipliers.nu_pi import NuPI

__all__ = ["Composed", "Lagrange", "Multiplier", "NuPI", "calibrate"]
