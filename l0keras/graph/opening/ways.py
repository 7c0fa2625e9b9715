"""The ways in which a layer may be traced."""

import typing

# Primes that stand for sizes which are not known: that of the batch, and all
# others. Small ones, as a layer may make arrays of these sizes.
_STAND_INS = (61, *[67] * 4)


class Way(typing.NamedTuple):
    """A way to trace a layer.

    Attributes:
        stand_ins: sizes that stand in for those which are not known.
        unites: whether the layers inside of it that could be opened are
            traced along with it. They may hand each other what is no tensor.
        rows: whether vectors among the layer's own variables are matrices of
            one row, of which more is known where they are broadcast.
        positions: whether `ops.arange` counts along an axis of an input,
            instead of making a constant.
    """

    stand_ins: tuple = ()
    unites: bool = False
    rows: bool = False
    positions: bool = False


WAYS = [
    Way(stand_ins, unites, rows, positions)
    for positions in (False, True)
    for rows in (True, False)
    for unites in (False, True)
    for stand_ins in ((), _STAND_INS[:1], _STAND_INS)
]
