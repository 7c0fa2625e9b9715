import re

from l0keras.gates import check_gate_arguments

GATE_ARGUMENTS = (
    "droprate_init",
    "gamma",
    "l0",
    "log_alpha_limit",
    "sample_per",
    "seed",
    "temperature",
    "zeta",
)


# What gates have in common that are charged together.
COMMON = ("gamma", "l0", "temperature", "zeta")


def reason_for_none(group):
    """Why a group of channels gets no gates, or `None`."""
    if group.fixed:
        return f"no gates: {'; '.join(group.fixed)}"
    if not group.readers:
        return "no gates: nobody reads it"
    return None


class Chooser:
    """Which gate arguments each group gets, by the rules."""

    def __init__(self, arguments, rules, allowed, by_rule):
        self.arguments = _checked(arguments, allowed, "sparsify")
        self.rules = []
        if rules is not None and not isinstance(rules, dict):
            raise ValueError(
                "Argument `rules` must be a dictionary from regular "
                f"expressions to booleans or dictionaries. Received: {rules!r}"
            )
        for pattern, choice in (rules or {}).items():
            try:
                found = re.compile(pattern)
            except (re.error, TypeError) as error:
                raise ValueError(
                    "A key of argument `rules` must be a regular expression. "
                    f"Received: {pattern!r} ({error})"
                ) from error
            if isinstance(choice, dict):
                _check_known(choice, by_rule, repr(pattern))
                choice = _checked({**arguments, **choice}, allowed, "rules")
            elif not isinstance(choice, bool):
                raise ValueError(
                    "A value of argument `rules` must be True, False or a "
                    f"dictionary. Received: {choice!r} for {pattern!r}"
                )
            self.rules.append((found, choice))

    def check(self, makers):
        """Refuses rules that match no layer."""
        makers = sorted(set(makers))
        for pattern, _ in self.rules:
            if not any(pattern.search(name) for name in makers):
                raise ValueError(
                    "A key of argument `rules` must match the name of a layer "
                    f"that makes channels. Received: {pattern.pattern!r}. "
                    f"These layers do: {', '.join(makers)}"
                )

    def choice(self, makers):
        """The gate arguments for what these layers make, or `None`."""
        for pattern, choice in self.rules:
            if any(pattern.search(name) for name in makers):
                if choice is True:
                    return self.arguments
                return choice or None
        return self.arguments


def _checked(arguments, allowed, place):
    _check_known(arguments, allowed, place)
    check_gate_arguments(**arguments)
    return arguments


def _check_known(arguments, allowed, place):
    unknown = set(arguments) - set(allowed)
    if unknown:
        raise ValueError(
            f"Unknown argument `{sorted(unknown)[0]}` in {place}. Allowed: "
            f"{', '.join(sorted(allowed))}"
        )
