"""What each layer type does with channels: one rule a type, one table."""

from l0keras.graph.rules.rule import OtherAxis
from l0keras.graph.rules.rule import Rule
from l0keras.graph.rules.table import BARRIER
from l0keras.graph.rules.table import rule_of

__all__ = ["BARRIER", "OtherAxis", "Rule", "rule_of"]
