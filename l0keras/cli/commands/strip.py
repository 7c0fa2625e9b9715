"""`l0keras strip`."""

from l0keras.cli.loading import load
from l0keras.cli.outputs import save_json
from l0keras.cli.outputs import save_model
from l0keras.reporting.report import report
from l0keras.stripping.strip import strip


def run(values):
    """Strips a file, writes what is left and prints what was cut.

    Args:
        values: the flags.

    Raises:
        ValueError: as `load` and `strip`.
        RuntimeError: as `strip`.
    """
    model = load(values.model, values)
    small = strip(model, min_units=values.min_units, round_to=values.round_to)
    text = report(model, small)
    print(text)
    (path,) = values.output
    print(f"{path}: {save_model(small, path):,} bytes")
    if values.report is not None:
        save_json(text.to_dict(), values.report)
