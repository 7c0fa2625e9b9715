"""Sizes of networks on a microcontroller, whole and cut.

    python -m trainers.studies.micro --save_to=saved_models/micro

writes the networks of the four tasks of MLPerf Tiny as int8 files for
TensorFlow Lite for Microcontrollers: as they are, and cut to shares of their
multiply-accumulates. The weights are random, and so is which gates are cut:
bytes do not depend on them. The files run on random inputs and are compared
with LiteRT.

Source of the networks: Banbury et al., 2021 (arXiv:2106.07597).
"""

import os
import tempfile

import keras
import numpy as np
from absl import flags
from keras import layers

import l0keras
from l0keras.targets import Target
from trainers.run import program
from trainers.run import tables
from trainers.studies import proof

FLAGS = flags.FLAGS
# What stays of the multiply-accumulates.
SHARES = (1.0, 0.5, 0.25)
# As many as `export_tflite` chooses ranges by, at least twice.
EXAMPLES = 64
NOTES = (
    "MACs: multiply-accumulates for one input.",
    "flash: bytes of the int8 file, which is read in place. The code of the "
    "operations comes on top.",
    "arena: bytes of memory for all tensors and for what the runtime keeps, "
    "as measured with its reference kernels and pointers of 64 bits.",
    f"steps: the largest difference of an output from LiteRT's, on 32 of "
    f"{EXAMPLES} random inputs, in steps of its scale.",
    "spread: the largest difference of an output between two inputs, in the "
    "same steps.",
)


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    program.define_results_flag(flag_values)


# === Networks ===


def _normalized(x):
    return layers.ReLU()(layers.BatchNormalization()(x))


def _separable(x, filters, strides=1):
    x = layers.DepthwiseConv2D(3, strides, padding="same")(x)
    x = layers.Conv2D(filters, 1)(_normalized(x))
    return _normalized(x)


def keyword_spotting():
    """DS-CNN, from 49 x 10 cepstral coefficients to 12 words."""
    inputs = keras.Input((49, 10, 1))
    x = layers.Conv2D(64, (10, 4), 2, padding="same")(inputs)
    x = _normalized(x)
    for _ in range(4):
        x = _separable(x, 64)
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(x))
    return keras.Model(inputs, layers.Dense(12, activation="softmax")(x))


def visual_wake_words():
    """MobileNet v1 of a quarter of the width: is there a person or not?"""
    inputs = keras.Input((96, 96, 3))
    x = _normalized(layers.Conv2D(8, 3, 2, padding="same")(inputs))
    strided = (32, 64, 128, 256)
    filters = (16, 32, 32, 64, 64, *(128,) * 6, 256, 256)
    for before, after in zip((8, *filters), filters):
        grows = after in strided and after > before
        x = _separable(x, after, 2 if grows else 1)
    x = layers.Flatten()(layers.AveragePooling2D(3)(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def image_classification():
    """ResNet of 8 layers for CIFAR-10."""
    inputs = keras.Input((32, 32, 3))
    x = _normalized(layers.Conv2D(16, 3, padding="same")(inputs))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = layers.Conv2D(filters, 3, strides, padding="same")(x)
        y = layers.Conv2D(filters, 3, padding="same")(_normalized(y))
        y = layers.BatchNormalization()(y)
        if strides > 1:
            x = layers.Conv2D(filters, 1, strides, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def anomaly_detection():
    """Autoencoder of five frames of 128 mel bands of a machine's sound."""
    x = inputs = keras.Input((640,))
    for units in (*(128,) * 4, 8, *(128,) * 4):
        x = _normalized(layers.Dense(units)(x))
    return keras.Model(inputs, layers.Dense(640)(x))


NETWORKS = {
    "keyword spotting, DS-CNN": keyword_spotting,
    "visual wake words, MobileNetV1 0.25": visual_wake_words,
    "image classification, ResNet-8": image_classification,
    "anomaly detection, autoencoder": anomaly_detection,
}


# === Files ===


def inputs_of(model, rng):
    """Random inputs with a signal in them, for images and for vectors."""
    if len(model.input_shape) == 2:
        shape = (EXAMPLES, *model.input_shape[1:])
        return rng.standard_normal(shape, dtype="float32")
    return proof.images_for(model, rng, EXAMPLES)


def cut_to(model, share):
    """Cuts gates at random until a share of multiply-accumulates is left."""
    if share == 1.0:
        return model
    gated = l0keras.sparsify(model, l0=1e-6, droprate_init=0.02, seed=0)
    rng = np.random.default_rng(2)
    for gate in l0keras.gates_of(gated):
        gate.log_alpha.assign(rng.normal(2.0, 1.0, gate.log_alpha.shape))
    return l0keras.cut(gated, Target("macs", share))


def measure(name, build, folder, shares=SHARES):
    """Writes the files of a network.

    Args:
        name: its name.
        build: a function that returns it.
        folder: the path of a folder for the files.
        shares: what is to stay of the multiply-accumulates.

    Returns:
        A list of dictionaries for JSON, one for each share: `params`, `macs`,
        `flash_bytes`, `arena_bytes`, `ops`, `max_steps` (from LiteRT),
        `spread_steps` (of outputs) and `max_difference` (from the model).

    Raises:
        RuntimeError: outputs are the same for all inputs, and so show nothing.
    """
    rows = []
    for share in shares:
        print(f"{name}, {share:g}", flush=True)
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        model = build()
        data = inputs_of(model, rng)
        proof.randomize(model, rng)
        proof.fit_statistics(model, data, rng)
        model = cut_to(model, share)
        # Those that the cut has moved.
        proof.fit_statistics(model, data, rng)
        path = os.path.join(folder, "model.tflite")
        file = l0keras.export_tflite(model, path, "int8", data, target="micro")
        rows.append(
            {
                "name": name,
                "share": share,
                "params": model.count_params(),
                "macs": l0keras.count_macs(model),
                "flash_bytes": file.bytes,
                "arena_bytes": file.micro.arena_bytes,
                "ops": list(file.micro.ops),
                "max_steps": file.micro.max_steps,
                "spread_steps": _spread(path, data),
                "max_difference": file.max_difference,
            }
        )
    return rows


def _spread(path, data):
    """How far outputs are apart, in steps of their scale."""
    (details,) = l0keras.export.signature(path)["outputs"].values()
    outputs = l0keras.export.run_tflite(path, data)
    spread = np.max(np.ptp(outputs, axis=0)) / details["scale"]
    if not spread:
        raise RuntimeError("All inputs give the same outputs.")
    return round(float(spread))


# === Tables ===


def table(rows):
    """Sets rows as a Markdown table with its notes, a string."""
    columns = {
        "MACs": "macs",
        "parameters": "params",
        "flash": "flash_bytes",
        "arena": "arena_bytes",
        "steps": "max_steps",
        "spread": "spread_steps",
    }
    lines = [["network", *columns]]
    for row in rows:
        numbers = columns.values()
        share = "" if row["share"] == 1.0 else f", cut to {row['share']:g}"
        lines.append([row["name"] + share, *(f"{row[n]:,}" for n in numbers)])
    parts = [
        tables.markdown(lines),
        "\n".join(f"- {note}" for note in NOTES),
        "Operations to register, the same for all shares of a network:",
    ]
    ops = {row["name"]: ", ".join(row["ops"]) for row in rows}
    different = {(row["name"], tuple(sorted(row["ops"]))) for row in rows}
    if len(different) > len(ops):
        parts[-1] = "Operations to register:"
        ops = {
            f"{row['name']}, {row['share']:g}": ", ".join(row["ops"])
            for row in rows
        }
    parts.append("\n".join(f"- {name}: {ops[name]}" for name in ops))
    return "\n\n".join(parts) + "\n"


@program.main(errors=(RuntimeError, ImportError))
def main():
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for name, build in NETWORKS.items()
            for row in measure(name, build, folder)
        ]
    program.show_results(rows, table(rows))


if __name__ == "__main__":
    program.run(main, define_flags)
