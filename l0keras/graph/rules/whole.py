from l0keras.graph.rules.rule import Rule


class Whole(Rule):
    """Layers that are kept as they are, with all channels that they read.

    Args:
        reason: why no channel can go, to follow the words "kept as it is:".
    """

    inputs = None
    with_arguments = True

    def __init__(self, reason):
        self._reason = reason

    def refuses(self, node):
        return self._reason
