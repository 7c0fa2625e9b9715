r"""What a newcomer does: an own file, a folder of photographs, one command.

    python -m trainers.studies.photos --workdir=runs/photos \
        --manual_dir=FASHION_MNIST --save_to=saved_models/photos

writes images of a data set as JPEG files, a folder for each class, trains a
network of plain Keras layers on them for a few epochs and saves it. Then

    l0keras compress model.keras --data=photos ...

makes it smaller: to a quarter of the file, to 50 kB of integers, to half of
the time for an example, and to a quarter of the multiply-accumulates. The table
has what was asked for and what was reached, as measured on the files; the
accuracy is that on images which the command holds out by itself. Times are
those of a machine that does nothing else.
"""

import json
import os
import subprocess
import sys

import keras
from absl import flags
from keras import layers

from trainers.data import input_pipeline
from trainers.run import program
from trainers.run import tables
from trainers.run.workdir import Workdir

FLAGS = flags.FLAGS
# Titles and flags of the command.
ROWS = {
    "a quarter of the file": ("--target_bytes=0.25",),
    "50 kB of integers": ("--target_bytes=50k", "--quantization=int8"),
    "half of the time": ("--target_latency=0.5",),
    "a quarter of the MACs": ("--target_macs=0.25",),
}
NAMES = {"bytes": "bytes", "latency": "us", "macs": "MACs"}
EPOCHS = 4


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    program.define_results_flag(flag_values)
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder for the photographs, the network and its files.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "dataset",
        "fashion_mnist",
        "Data set of images, see trainers.train.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "Where tensorflow_datasets keeps data sets.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "manual_dir",
        None,
        "Folder with the original files of the data set.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "photos",
        6000,
        "How many images of the training set to take.",
        lower_bound=100,
        flag_values=flag_values,
    )


def write_photos(data, count, folder):
    """Writes images of a training set as JPEG files.

    Args:
        data: a `Data` of images.
        count: how many, from the first on.
        folder: the path of a folder. It gets a folder for each class.
    """
    pairs = zip(data.train_images[:count], data.train_labels[:count])
    for index, (image, label) in enumerate(pairs):
        of_class = os.path.join(folder, f"class_{label}")
        os.makedirs(of_class, exist_ok=True)
        keras.utils.save_img(
            os.path.join(of_class, f"{index}.jpg"), image, scale=False
        )


def train(data, count, path):
    """Trains a network as somebody else may have, and saves it.

    Args:
        data: a `Data` of images.
        count: how many of the training set to take.
        path: the file of the model.
    """
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(data.input_shape),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(data.classes, activation="softmax"),
        ]
    )
    model.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    images = data.train_images[:count].astype("float32")
    labels = data.train_labels[:count]
    model.fit(images, labels, epochs=EPOCHS, verbose=2)
    model.save(path)


def compress(arguments, model, photos, folder):
    """Runs the command, unless its report is there.

    Args:
        arguments: its flags of the size.
        model: the path of the .keras file.
        photos: the folder with a folder for each class.
        folder: where its files go.

    Returns:
        Its report, a dictionary.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    os.makedirs(folder, exist_ok=True)
    report = os.path.join(folder, "report.json")
    if not os.path.exists(report):
        subprocess.run(
            [
                *(sys.executable, "-m", "l0keras"),
                *("compress", model, f"--data={photos}", *arguments),
                f"--output={os.path.join(folder, 'small.tflite')}",
                f"--backup_dir={os.path.join(folder, 'backup')}",
                *(f"--report={report}", "--overwrite"),
            ],
            check=True,
        )
    with open(report) as file:
        return json.load(file)


def row_of(name, arguments, report):
    """What the table shows of a report, for JSON."""
    dense, small = report["dense"], report["small"]
    (asked,) = report["asked"]
    return {
        "name": name,
        "command": " ".join(arguments),
        **{key: asked[key] for key in ("of", "at_most", "dense", "reached")},
        "accuracy": [
            [one[key]["value"] for one in (dense, small)]
            for key in ("score", "file_score")
        ],
        "bytes": [dense["bytes"], small["bytes"]],
        "latency_us": [dense["latency"], small["latency"]],
        "examples": report["examples"],
    }


def table(rows):
    """Sets rows as a Markdown table, a string."""
    lines = [
        [
            "asked for",
            "flags",
            "at most",
            "reached",
            "of what was asked",
            "accuracy of the files",
            "bytes",
            "us",
        ]
    ]
    for row in rows:
        unit = NAMES[row["of"]]
        lines.append(
            [
                row["name"],
                f"`{row['command']}`",
                f"{row['at_most']:,.0f} {unit}",
                f"{row['reached']:,.0f} {unit}",
                f"{row['reached'] / row['at_most']:.1%}",
                " > ".join(f"{x:.1%}" for x in row["accuracy"][1]),
                " > ".join(f"{x:,}" for x in row["bytes"]),
                " > ".join(f"{x:.1f}" for x in row["latency_us"]),
            ]
        )
    count = rows[0]["examples"]
    return (
        f"{tables.markdown(lines)}\n\n"
        f"Accuracies are those on {count:,} images that were held out, of the "
        "dense file and of the small one.\n"
    )


@program.main(errors=(subprocess.CalledProcessError,), resumes=True)
def main():
    settings = {"dataset": FLAGS.dataset, "photos": FLAGS.photos}
    workdir = Workdir(FLAGS.workdir, settings)
    workdir.claim()
    photos = workdir.file("photos")
    model = workdir.file("model.keras")
    if not os.path.exists(model):
        data = input_pipeline.load(
            FLAGS.dataset, FLAGS.data_dir, FLAGS.manual_dir
        )
        write_photos(data, FLAGS.photos, photos)
        train(data, FLAGS.photos, model)
    rows = []
    for index, (name, arguments) in enumerate(ROWS.items()):
        folder = workdir.file(f"{index}")
        report = compress(arguments, model, photos, folder)
        rows.append(row_of(name, arguments, report))
    program.show_results(rows, table(rows))


if __name__ == "__main__":
    program.run(main, define_flags)
