from l0keras.gates import GateGenerator
from l0keras.gates import check_dependence
from l0keras.graph.costs import check_cost
from l0keras.placement.gated_arrays import GatedArrays
from l0keras.regularizers import ExpectedCost

PENALTIES = ("separate", "joint", "reference")
_CONSTANTS = ("temperature", "gamma", "zeta")


class GeneratedGates:
    """Makes `log_alpha` for the gates of a model that is being built.

    Args:
        sizes: how many gates each gate layer has: a dictionary from their
            names to integers, in the order of the network.
        arguments: the arguments of `HardConcreteGate` for all of them.
        dependence: as in `GateGenerator`.
        cost, penalty: as in `l0keras.sparsify`.
        inputs, droprate_init: as in `GateGenerator`.
        make: what makes the generator, a function with its arguments.
    """

    def __init__(
        self,
        sizes,
        arguments,
        dependence,
        cost,
        penalty,
        inputs=None,
        droprate_init=None,
        make=GateGenerator,
    ):
        self._names = list(sizes)
        self._l0 = arguments["l0"]
        self._constants = constants_of(arguments)
        self._cost = cost
        self._penalty = penalty
        self._log_alphas = None
        self.generator = make(
            list(sizes.values()),
            dependence=dependence,
            inputs=inputs,
            droprate_init=droprate_init or arguments["droprate_init"],
            seed=arguments.get("seed"),
            name="gate_generator" if make is GateGenerator else "gate_budget",
        )

    def log_alpha(self, name, anchor):
        """The `log_alpha` with which to call the gate of a name.

        Args:
            name: the name of the gate layer.
            anchor: an input of the model that is built.

        Returns:
            A `KerasTensor` of shape `(size,)`.
        """
        if self._log_alphas is None:
            self._log_alphas = self.generator(anchor)
        return self._log_alphas[self._names.index(name)]

    def charge(self, model):
        """Gives the generator the price of all gates of the built model."""
        if self._penalty == "separate" or not self._l0:
            return
        arrays = GatedArrays(model, self._names, self._cost)
        terms = (
            arrays.reference_terms()
            if self._penalty == "reference"
            else arrays.terms()
        )
        self.generator.penalty = ExpectedCost(
            terms, self.generator.units, self._l0, **self._constants
        )


def constants_of(arguments):
    """Those of the hard concrete among the arguments of gates."""
    return {name: arguments[name] for name in _CONSTANTS if name in arguments}


def check_arguments(dependence, cost, penalty):
    """Refuses unknown arguments; returns the penalty, by default the usual.

    Gates that depend on each other are charged together, others each for
    itself.
    """
    check_dependence(dependence)
    check_cost(cost)
    if penalty is None:
        return "joint" if dependence else "separate"
    if penalty not in PENALTIES:
        raise ValueError(
            f"Argument `penalty` must be one of {PENALTIES} or None. "
            f"Received: penalty={penalty!r}"
        )
    return penalty
