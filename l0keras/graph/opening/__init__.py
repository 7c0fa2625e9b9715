"""Opening layers: the calls inside of one as a part of a model's graph.

A layer made of other layers is a small model: its `call`, given symbolic
tensors, makes the nodes of its inside. It is opened only where that is sure to
mean the same: training and test time lead to the same graph, and the graph
computes the same numbers.
"""
