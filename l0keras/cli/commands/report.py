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
    text = report(before, after)
    print(text)
    if values.report is not None:
        save_json(text.to_dict(), values.report)
