"""Examples as they are in the data, before the model's form is theirs."""

import dataclasses

# Of the examples, where nobody says how many to hold out.
HELD_OUT = 0.2


@dataclasses.dataclass(frozen=True)
class Source:
    """Batches of examples as they lie on disk.

    Attributes:
        train: a `tf.data.Dataset` of batches of inputs and labels, in
            another order each time.
        validation: such a data set of other examples, in their order.
        num_train: the number of examples in `train`.
        num_validation: that in `validation`.
        classes: whether labels are numbers of classes; values otherwise.
        names: the names of the classes, a list, or `None`.
    """

    train: object
    validation: object
    num_train: int
    num_validation: int
    classes: bool
    names: list | None = None


def share_held_out(total, values):
    """How many of some examples are held out.

    Args:
        total: the number of all.
        values: the flag `validation_split`.

    Raises:
        ValueError: no example would be left in one of the parts.
    """
    share = values.validation_split
    share = HELD_OUT if share is None else share
    held = round(total * share)
    if not 0 < held < total:
        raise ValueError(
            "Argument `validation_split` must leave examples to train on and "
            f"to measure on. Received: validation_split={share} of {total} "
            "examples"
        )
    return held
