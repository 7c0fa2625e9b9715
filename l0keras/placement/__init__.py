"""Where gates go: found by the channel graph, or named by a paper."""
