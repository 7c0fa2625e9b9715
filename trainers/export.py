r"""Turns a trained model into a smaller one, or into a LiteRT file.

    python -m trainers.export --input=runs/mnist_mlp_l0 --format=litert \
        --output=small.tflite
    python -m trainers.export --input=model.keras --format=stripped \
        --output=small.keras

The input is a .keras file, with gates or without, or a workdir of
`trainers.train`, whose model.keras is then taken.
"""

import os
import sys

from absl import app
from absl import flags

import l0keras
from trainers import program
from trainers import saved
from trainers.workdir import replacing

FLAGS = flags.FLAGS
FORMATS = {"stripped": ".keras", "litert": ".tflite"}


def export(path, form, output):
    """Strips a saved model and writes what is left.

    Args:
        path: a .keras file.
        form: `"stripped"` for a .keras file, `"litert"` for a .tflite file.
        output: where to write, with that ending.

    Returns:
        A string that says what came of it.

    Raises:
        ValueError: an argument that is not as above, or a damaged file.
    """
    if form not in FORMATS:
        raise ValueError(
            f"Argument `format` must be one of {', '.join(FORMATS)}. "
            f"Received: format={form}"
        )
    folder = os.path.dirname(os.path.abspath(output or ""))
    if not (output or "").endswith(FORMATS[form]) or not os.path.isdir(folder):
        raise ValueError(
            f"Argument `output` must end in {FORMATS[form]} and lie in a "
            f"folder that exists. Received: output={output}"
        )
    if not path.endswith(".keras"):
        raise ValueError(
            "Argument `input` must be a .keras file or a workdir. "
            f"Received: input={path}"
        )
    model = saved.load(path)
    small = l0keras.strip(model)
    text = str(l0keras.report(model, small))
    if form == "stripped":
        with replacing(output) as temporary:
            small.save(temporary)
        return f"{text}\n{output}: {os.path.getsize(output):,} bytes"
    file = l0keras.export_tflite(small, output)
    return (
        f"{text}\n{output}: {file.bytes:,} bytes, {file.latency_us:.0f} us for "
        f"one example on one thread"
    )


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    saved.define_flags(flag_values)
    flags.DEFINE_string(
        "format",
        "litert",
        f"What to write: one of {', '.join(FORMATS)}.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "output", None, "The file to write.", flag_values=flag_values
    )


def main(argv):
    try:
        program.start(argv)
        paths, _ = saved.find(FLAGS.input)
        text = export(paths[0], FLAGS.format, FLAGS.output)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(text)


def run():
    """The console command."""
    define_flags()
    flags.adopt_module_key_flags(saved)
    app.run(main)


if __name__ == "__main__":
    run()
