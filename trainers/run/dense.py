"""The same network without sparsity, for the first row of a table."""

import os

from l0keras.callbacks import NonFiniteError
from trainers.run.training import train
from trainers.run.workdir import write_json

# In the workdir of the sparse run.
FOLDER = "dense"


def with_dense(report, config, workdir, **where):
    """Trains the network without sparsity, and adds its error to a report.

    It has the same epochs, data, optimizer and seed, and a workdir of its own
    within the other one. Where it diverges by these settings, which are for
    sparse networks, it stays without an error.

    Args:
        report: what `train` returns for the sparse run.
        config: the `Config` of that run.
        workdir: its folder.
        **where: see `Training`.

    Returns:
        The report with `test_error["dense"]`, also in the workdir's
        `report.json`.

    Raises:
        ValueError: see `Training`.
    """
    if "dense" in report["test_error"]:
        return report
    print("The same network without sparsity")
    folder = os.path.join(os.path.expanduser(workdir), FOLDER)
    try:
        dense = train(config.without_sparsity(), folder, **where)
    except NonFiniteError as error:
        print(f"It has no error, because it diverges: {error}")
        return report
    errors = {"dense": dense["test_error"]["dense"], **report["test_error"]}
    report = {**report, "test_error": errors}
    write_json(os.path.join(os.path.expanduser(workdir), "report.json"), report)
    return report
