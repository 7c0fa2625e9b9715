"""How a model gets into the corpus."""

import dataclasses
from collections.abc import Callable

import keras

# A layer between two gated ones keeps a quarter of its parameters with half of
# all gates closed, the first and the last layer keep a half.
LIMIT = 0.45
# All entries by their names, in the order of the files.
ENTRIES = {}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of the corpus.

    Args:
        name: what it is, as a reader would call it.
        area: what it is for.
        build: a function without arguments that returns a built
            `keras.Model` with random weights.
        high: integers of the inputs lie in [0, high): a number for all, or a
            dictionary by the names of inputs, which also makes integers of
            those that are declared as floats.
        sizes: an integer for all unknown sizes of inputs but the batch.
        inputs: a function from a generator of numpy and a number of examples
            to the inputs, in the place of random ones.
        needs: a module that `build` imports and that not everyone has.
        limit: the largest share of its parameters that may be left with half
            of all gates closed.
        inherent: why that is more than `LIMIT`, where it is in the nature of
            the model; a sentence.
        known: what does not work yet; a sentence.
    """

    name: str
    area: str
    build: Callable[[], keras.Model]
    high: int | dict = 16
    sizes: int = 8
    inputs: Callable | None = None
    needs: str | None = None
    limit: float = LIMIT
    inherent: str | None = None
    known: str | None = None


def entry(name, area, **arguments):
    """Takes a function that builds a model into the corpus.

    Args:
        name, area, **arguments: as in `Entry`.

    Returns:
        A decorator that gives the function back.

    Raises:
        ValueError: the name is taken, or `limit` is raised without a reason.

    Example:

    >>> @entry("two layers", area="tables")
    ... def two_layers():
    ...     return keras.Sequential([keras.Input((3,)), ...])
    """

    def add(build):
        if name in ENTRIES:
            raise ValueError(
                f"Argument `name` must be new. Received: name={name}"
            )
        new = Entry(name, area, build, **arguments)
        if (new.limit > LIMIT) != (new.inherent is not None):
            raise ValueError(
                "Argument `inherent` must say why `limit` is above "
                f"{LIMIT}. Received: limit={new.limit}, "
                f"inherent={new.inherent}"
            )
        ENTRIES[name] = new
        return build

    return add
