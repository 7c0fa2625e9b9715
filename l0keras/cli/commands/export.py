"""`l0keras export`."""

import dataclasses

from l0keras.cli.data.load_data import load_data
from l0keras.cli.flags import quantization_of
from l0keras.cli.loading import load
from l0keras.cli.outputs import draft
from l0keras.cli.outputs import save_json
from l0keras.cli.scores import score
from l0keras.cli.scores import warn_of_chance
from l0keras.export import export_tflite
from l0keras.export import write_c_array
from l0keras.gates import gates_of
from l0keras.stripping.strip import strip


def run(values):
    """Writes a LiteRT file and prints what is known of it.

    Args:
        values: the flags.

    Raises:
        ImportError: LiteRT, or what reads the data, is not installed.
        ValueError: as `load`, `load_data` and `export_tflite`.
        RuntimeError: as `export_tflite`.
    """
    model = load(values.model, values)
    if gates_of(model):
        model = strip(model)
    data = None if values.data is None else load_data(model, values)
    scores = {}
    (path,) = values.output
    with draft(path) as name:
        print(f"Writing {path} and running it ...", flush=True)
        file = export_tflite(
            model,
            name,
            quantization_of(values),
            None if data is None else data.train,
            values.sparse_encoding,
            values.fixed_batch_size,
            integer_only=values.integer_only,
            target=values.target,
        )
        if data is not None:
            for key, what in (("model", model), ("file", name)):
                scores[key] = score(
                    what, data.validation, data.task, data.classes
                )
    file = dataclasses.replace(file, path=path)
    print(file)
    if values.c_array is not None:
        print(f"  {', '.join(write_c_array(file, values.c_array))}")
    if scores:
        warn_of_chance(scores["model"], data.task)
        print(
            f"  {scores['file'].name} {scores['file']} on "
            f"{data.num_validation:,} examples, {scores['model']} before"
        )
    if values.report is not None:
        numbers = {key: vars(value) for key, value in scores.items()}
        save_json({**dataclasses.asdict(file), **numbers}, values.report)
