"""The channel graph: which channels exist, who makes them, who reads them."""

from l0keras.graph.analyze import channel_graph
from l0keras.graph.analyze import find_rules
from l0keras.graph.analyze import load_params
from l0keras.graph.analyze import propagate_constants
from l0keras.graph.builder import Builder
from l0keras.graph.costs import CONVOLUTIONS
from l0keras.graph.costs import check_cost
from l0keras.graph.costs import macs
from l0keras.graph.gated_arrays import GatedArrays
from l0keras.graph.graph import Graph
from l0keras.graph.graph import Operation
from l0keras.graph.graph import Value
from l0keras.graph.graph import weights_by_name
from l0keras.graph.groups import Group
from l0keras.graph.groups import Ties
from l0keras.graph.groups import channel_groups
from l0keras.graph.kept import choose_kept
from l0keras.graph.live import find_live
from l0keras.graph.register import register_channel_rule
from l0keras.graph.rules import BARRIER
from l0keras.graph.rules import Rule
from l0keras.graph.rules import rule_of
from l0keras.graph.trace import as_functional
from l0keras.graph.trace import is_functional
from l0keras.graph.trace import trace

__all__ = [
    "BARRIER",
    "Builder",
    "CONVOLUTIONS",
    "GatedArrays",
    "Graph",
    "Group",
    "Operation",
    "Rule",
    "Ties",
    "Value",
    "as_functional",
    "channel_graph",
    "channel_groups",
    "check_cost",
    "choose_kept",
    "find_live",
    "find_rules",
    "is_functional",
    "load_params",
    "macs",
    "propagate_constants",
    "register_channel_rule",
    "rule_of",
    "trace",
    "weights_by_name",
]
