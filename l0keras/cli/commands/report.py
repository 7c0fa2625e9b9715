"""`l0keras report`."""

from l0keras.cli.loading import load
from l0keras.cli.outputs import save_json
from l0keras.reporting.report import report
from l0keras.stripping.strip import strip


def run(values):
    """Prints the sizes of a model, and of what another one left of it.

    Args:
        values: the flags.

    Raises:
        ValueError: as `load`, `strip` and `report`.
        RuntimeError: as `strip`.
    """
    before = load(values.model, values)
    if values.other is None:
        after = strip(before)
    else:
        after = load(values.other, values, "OTHER")
    try:
        found = report(before, after)
    except ValueError as error:
        # The function has other names for its arguments.
        text = str(error).replace("`before`", "`MODEL`")
        raise ValueError(text.replace("`after`", "`OTHER`")) from error
    print(found)
    if values.report is not None:
        save_json(found.to_dict(), values.report)
