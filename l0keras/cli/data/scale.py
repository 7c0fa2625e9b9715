"""Whether inputs have the range that a model was trained on.

Some models divide pixels by 255 themselves, others want that done before, and
nothing in a file says which. But the accuracy says it.
"""

import numpy as np

from l0keras.cli.scores import score

# Pairs of a factor and an offset that people scale pixels by.
_FOR_PIXELS = ((1 / 255, 0.0), (1 / 127.5, -1.0))
_TO_PIXELS = ((255.0, 0.0),)
_NAMES = {1 / 255: "1/255", 1 / 127.5: "1/127.5", 255.0: "255"}
# Of the examples, which the scalings are tried on.
TRIED_ON = 512
# By how much another scaling has to be better, as a share of the examples.
BETTER = 0.1


def check_scale(model, data, largest):
    """Refuses inputs as they are where the model is better on scaled ones.

    Args:
        model: a `keras.Model`.
        data: the `Data` as they are.
        largest: the largest input.

    Raises:
        ValueError: the model is right more often with another scaling; the
            message names it.
    """
    if not data.classes or "int" in data.task.input_dtype:
        return
    scalings = _FOR_PIXELS if largest > 2 else _TO_PIXELS
    batches, found = [], 0
    for x, y in data.validation:
        batches.append((x.numpy(), y.numpy()))
        found += len(batches[-1][0])
        if found >= TRIED_ON:
            break

    def accuracy(factor, offset):
        scaled = [(x * np.float32(factor) + offset, y) for x, y in batches]
        return score(model, scaled, data.task).value

    as_is = accuracy(1.0, 0.0)
    found = {scaling: accuracy(*scaling) for scaling in scalings}
    (factor, offset), best = max(found.items(), key=lambda item: item[1])
    if best > as_is + BETTER:
        flags = f"--rescale={_NAMES[factor]}"
        flags += f" --offset={offset:g}" if offset else ""
        raise ValueError(
            "Argument `rescale` must be given: the model is right for "
            f"{100 * as_is:.0f} % of the examples that are measured on as they "
            f"are, and for {100 * best:.0f} % with {flags}. --rescale=1 leaves "
            "them as they are. Received: none"
        )
