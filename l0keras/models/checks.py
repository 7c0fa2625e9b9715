"""Checks of arguments that several networks have."""


def check_gates(gates, l0, dependence=None):
    """Checks that settings of gates come with gates only."""
    if gates not in (None, "paper"):
        raise ValueError(
            "Argument `gates` must be None, for a network without gates, or "
            "'paper', for gates where its paper puts them. "
            f"Received: gates={gates!r}"
        )
    prices = [l0] if isinstance(l0, (int, float)) else l0
    if gates is None and any(price != 0 for price in prices):
        raise ValueError(
            "Argument `l0` must be 0 without gates, because only weights "
            f"behind gates have a price. Received: l0={l0}, gates=None"
        )
    if gates is None and dependence is not None:
        raise ValueError(
            "Argument `dependence` must be None without gates. "
            f"Received: dependence={dependence!r}, gates=None"
        )


def check_droprate(droprate_init):
    if not 0 < droprate_init < 1:
        raise ValueError(
            "Argument `droprate_init` must lie in (0, 1). "
            f"Received: droprate_init={droprate_init}"
        )


def check_integer(name, value, at_least=1):
    if not isinstance(value, int) or value < at_least:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least {at_least}. "
            f"Received: {name}={value}"
        )


def check_l2(l2):
    if not l2 >= 0:
        raise ValueError(f"Argument `l2` must be at least 0. Received: l2={l2}")


def check_dropout(dropout):
    if not 0 <= dropout < 1:
        raise ValueError(
            "Argument `dropout` must be at least 0 and less than 1. "
            f"Received: dropout={dropout}"
        )


def blocks_of(depth, each, beyond):
    """How many blocks each of three stages has, in a network of a depth.

    `each` is what one more block in each stage adds to the depth.
    """
    blocks, rest = divmod(depth - beyond, each)
    if not isinstance(depth, int) or rest or blocks < 1:
        raise ValueError(
            f"Argument `depth` must be {each} n + {beyond} with n = 1, 2, ... "
            f"Received: depth={depth}"
        )
    return blocks
