from l0keras.models.checks import check_gates
from l0keras.placement.place_gates import place_gates


def check_dep_l0(gates, l0, dependence):
    """Refuses a price or a dependence of gates that are not there."""
    check_gates(gates, l0)
    if gates is None and dependence is not None:
        raise ValueError(
            "Argument `dependence` must be None without gates, which come "
            f"with gates='paper'. Received: dependence={dependence!r}, "
            "gates=None"
        )


def with_gates(model, gates, behind, **arguments):
    """A network with gates where Dep-L0's paper puts them, or as it is.

    Args:
        model: the plain network.
        gates: `None` or `"paper"`.
        behind: the names of the layers behind which gates go.
        **arguments: those of `place_gates`.
    """
    return place_gates(model, behind, **arguments) if gates else model
