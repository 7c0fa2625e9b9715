"""The channel graph: which channels exist, who makes them, who reads them."""

import importlib

from l0keras.graph.analyze import channel_graph
from l0keras.graph.graph import Graph
from l0keras.graph.groups import channel_groups
from l0keras.graph.register import register_channel_rule
from l0keras.graph.rules import Rule

__all__ = [
    "Graph",
    "Rule",
    "channel_graph",
    "channel_groups",
    "register_channel_rule",
]
# Names that this package had until 0.1, by the module that they are in now.
_FORMER = {
    "BARRIER": "graph.rules",
    "Builder": "graph.builder",
    "CONVOLUTIONS": "graph.costs",
    "GatedArrays": "placement.gated_arrays",
    "Group": "graph.groups",
    "Operation": "graph.graph",
    "Ties": "graph.groups",
    "Value": "graph.graph",
    "as_functional": "graph.trace",
    "check_cost": "graph.costs",
    "choose_kept": "stripping.kept",
    "find_live": "stripping.live",
    "find_rules": "graph.analyze",
    "is_functional": "graph.trace",
    "load_params": "stripping.constants",
    "macs": "graph.costs",
    "propagate_constants": "stripping.constants",
    "rule_of": "graph.rules",
    "weights_by_name": "graph.graph",
}


def __getattr__(name):
    if name in _FORMER:
        module = importlib.import_module(f"l0keras.{_FORMER[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
