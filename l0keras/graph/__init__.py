"""The channel graph: which channels exist, who makes them, who reads them."""

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
