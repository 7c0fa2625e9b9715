r"""Turns a trained model into a smaller one, or into a LiteRT file.

    python -m trainers.export --input=runs/mnist_mlp_l0 --format=litert \
        --output=small.tflite
    python -m trainers.export --input=runs/mnist_mlp_l0 --quantization=int8 \
        --quantize_epochs=5 --output=int8.tflite
    python -m trainers.export --input=model.keras --format=stripped \
        --output=small.keras

The input is a .keras file, with gates or without, or a workdir of
`trainers.train`, whose model.keras is then taken. int8 files and fine-tuning
need data: a workdir knows which, for a file `--dataset` says so.
"""

import os

from absl import flags

import l0keras
from l0keras.export import QUANTIZATIONS
from l0keras.export import check_quantization
from trainers.run import finetune
from trainers.run import program
from trainers.run import saved
from trainers.run.workdir import replacing

FLAGS = flags.FLAGS
FORMATS = {"stripped": ".keras", "litert": ".tflite"}
# As flags name them: float32 is no quantization.
MODES = {mode or "float32": mode for mode in QUANTIZATIONS}
# Out of the training examples, to choose ranges by.
REPRESENTATIVE = 500


def export(
    path,
    form,
    output,
    mode="float32",
    sparse_encoding=False,
    batch_size=None,
    data=None,
    tuning=finetune.FineTuning(),
):
    """Strips a saved model and writes what is left.

    Args:
        path: a .keras file.
        form: `"stripped"` for a .keras file, `"litert"` for a .tflite file.
        output: where to write, with that ending.
        mode: how the numbers of a .tflite file are written, a key of `MODES`.
        sparse_encoding: whether a .tflite file leaves out zeros.
        batch_size: that of a .tflite file, or `None` to leave it free.
        data: what `input_pipeline.load` returns; integer files and
            fine-tuning need it.
        tuning: the `FineTuning` before a .tflite file is written.

    Returns:
        A string that says what came of it.

    Raises:
        ValueError: an argument that is not as above, or a damaged file.
        RuntimeError: LiteRT cannot take the model.
    """
    _check(path, form, output, mode, sparse_encoding, data, tuning)
    model = saved.load(path)
    small = l0keras.strip(model)
    text = str(l0keras.report(model, small))
    if form == "stripped":
        with replacing(output) as temporary:
            small.save(temporary)
        return f"{text}\n{output}: {os.path.getsize(output):,} bytes"
    if tuning.trains:
        small = finetune.fine_tune(small, data, tuning)
    file = l0keras.export_tflite(
        small,
        output,
        MODES[mode],
        None if data is None else data.sample(REPRESENTATIVE),
        sparse_encoding,
        batch_size,
    )
    return f"{text}\n{file}"


def _check(path, form, output, mode, sparse_encoding, data, tuning):
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
    if mode not in MODES:
        raise ValueError(
            f"Argument `quantization` must be one of {', '.join(MODES)}. "
            f"Received: quantization={mode}"
        )
    check_quantization(MODES[mode], sparse_encoding)
    if form == "stripped" and (
        mode != "float32" or sparse_encoding or tuning.trains
    ):
        raise ValueError(
            "Arguments `quantization`, `sparse_encoding`, `cluster_epochs` and "
            "`quantize_epochs` are for --format=litert. Received: "
            "format=stripped"
        )
    if tuning.quantize_epochs and mode != "int8":
        raise ValueError(
            "Argument `quantization` must be int8 where `quantize_epochs` "
            f"trains for int8 files. Received: quantization={mode}"
        )


def needs_data(mode, tuning):
    """Whether an export has to see examples."""
    return QUANTIZATIONS[MODES[mode]].needs_data or tuning.trains


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    saved.define_flags(flag_values)
    program.define_data_flags(flag_values)
    flags.DEFINE_string(
        "format",
        "litert",
        f"Format of the file: one of {', '.join(FORMATS)}.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "output", None, "File to write.", flag_values=flag_values
    )
    flags.DEFINE_string(
        "quantization",
        "float32",
        f"Numbers of the file: one of {', '.join(MODES)}.",
        flag_values=flag_values,
    )
    flags.DEFINE_boolean(
        "sparse_encoding",
        False,
        "Choice to leave out zero weights, for models with single zeros that "
        "strip cannot cut.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "fixed_batch_size",
        0,
        "Batch size of the file; 0 leaves it free. Microcontrollers need 1.",
        lower_bound=0,
        flag_values=flag_values,
    )
    saved.define_dataset_flags(flag_values)
    define_finetuning_flags(flag_values)


def define_finetuning_flags(flag_values=FLAGS):
    """Defines one flag for each setting of a `FineTuning`."""
    defaults = finetune.FineTuning()
    flags.DEFINE_integer(
        "cluster_epochs",
        defaults.cluster_epochs,
        "Epochs of training on with weights that share values (tfmot).",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "clusters",
        defaults.clusters,
        "Number of values that the weights of a layer share.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "quantize_epochs",
        defaults.quantize_epochs,
        "Epochs of training on with the rounding of int8 files (tfmot).",
        flag_values=flag_values,
    )
    flags.DEFINE_boolean(
        "preserve_sparsity",
        defaults.preserve_sparsity,
        "Choice to keep zero weights zero in both.",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "learning_rate",
        defaults.learning_rate,
        "Learning rate of both.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "batch_size",
        defaults.batch_size,
        "Examples in a step of both.",
        flag_values=flag_values,
    )


def finetuning_from_flags(flag_values):
    """The `FineTuning` that the flags describe."""
    return finetune.FineTuning(
        cluster_epochs=flag_values.cluster_epochs,
        clusters=flag_values.clusters,
        quantize_epochs=flag_values.quantize_epochs,
        preserve_sparsity=flag_values.preserve_sparsity,
        learning_rate=flag_values.learning_rate,
        batch_size=flag_values.batch_size,
    )


@program.main(errors=(RuntimeError, ImportError))
def main():
    paths, settings = saved.find(FLAGS.input)
    tuning = finetuning_from_flags(FLAGS)
    mode = FLAGS.quantization
    data = None
    if mode in MODES and needs_data(mode, tuning):
        data = saved.load_data(
            FLAGS, settings, "fine-tune on and to choose ranges by"
        )
    text = export(
        paths[0],
        FLAGS.format,
        FLAGS.output,
        mode,
        FLAGS.sparse_encoding,
        FLAGS.fixed_batch_size or None,
        data,
        tuning,
    )
    print(text)


if __name__ == "__main__":
    program.run(main, define_flags)
