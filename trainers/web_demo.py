r"""Serves a page that draws a digit and runs LeNet-5 on it, in the browser.

    python -m trainers.web_demo

puts the page of `docs/demo` into a folder, with LiteRT's runtime for browsers
from npm and three files of one network: of its full shape, stripped, and
stripped with int8 weights. Then it serves the folder to this machine alone.
"""

import functools
import http.server
import os
import pathlib
import shutil
import subprocess

import keras
import numpy as np
from absl import flags

import l0keras
from trainers.run import program
from trainers.run.workdir import write_json

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "demo"
SAVED = ROOT / "saved_models" / "mnist_lenet5_l0_sep"
RUNTIME = pathlib.Path("node_modules", "@litertjs", "core", "wasm")


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "workdir",
        os.path.join("runs", "web_demo"),
        "Folder for page, runtime and files: 40 MB.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "port",
        8000,
        "Port to serve the page at; 0 only fills the folder.",
        lower_bound=0,
        upper_bound=65535,
        flag_values=flag_values,
    )


def full_shape(stripped):
    """LeNet-5 in its full shape that computes what a stripped one does.

    The units that were removed come back with zeros in the place of their
    weights, behind those that were kept.

    Args:
        stripped: the stripped model, with layers named as in `lenet5`.

    Returns:
        A `keras.Model`.
    """
    model = l0keras.models.lenet5()
    flat = stripped.get_layer("flatten")
    channels = flat.input.shape[-1]
    # Of the flattened values those that `fc1` reads, at their places in the
    # stripped network and, with more channels at each pixel, in the whole one.
    reading = stripped.get_layer("fc1").input
    places = np.arange(flat.output.shape[-1], dtype="float32")[None]
    read = np.asarray(keras.Model(flat.output, reading)(places))[0].astype(int)
    pixels, channel = np.divmod(read, channels)
    rows = pixels * model.get_layer("flatten").input.shape[-1] + channel
    for name in ("conv1", "conv2", "fc1", "fc2"):
        small, large = stripped.get_layer(name), model.get_layer(name)
        kernel, bias = (np.zeros(w.shape, w.dtype) for w in large.weights)
        values, offsets = (np.asarray(weight) for weight in small.weights)
        units = values.shape[-1]
        bias[:units] = offsets
        inputs = rows if name == "fc1" else np.arange(values.shape[-2])
        kernel[..., inputs, :units] = values
        large.set_weights([kernel, bias])
    return model


def fill(workdir):
    """Puts all that the page needs into a folder.

    Args:
        workdir: the folder, made where it does not exist.

    Raises:
        ValueError: there is no npm.
        RuntimeError: npm does not bring the runtime.
    """
    workdir = pathlib.Path(workdir)
    if not (workdir / RUNTIME).is_dir() and not shutil.which("npm"):
        raise ValueError(
            "The command npm is needed, for LiteRT's runtime for browsers. "
            "Received: none on PATH"
        )
    shutil.copytree(PAGE, workdir, dirs_exist_ok=True)
    _write_files(workdir / "models")
    if not (workdir / RUNTIME).is_dir():
        install = ["npm", "install", "--no-audit", "--no-fund"]
        result = subprocess.run(
            [*install, "--ignore-scripts"],
            cwd=workdir,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode:
            raise RuntimeError(f"npm does not work here:\n{result.stdout}")


def _write_files(folder):
    """Writes the files, and `index.json`, which says what they are."""
    folder.mkdir(exist_ok=True)
    stripped = keras.saving.load_model(SAVED / "stripped.keras")
    whole = full_shape(stripped)
    files = (
        ("dense", whole, None, "Full shape", _describe(whole)),
        ("stripped", stripped, None, "Stripped", _describe(stripped)),
        (
            "dynamic",
            stripped,
            "dynamic",
            "Stripped, int8",
            "the same units, weights of one byte each",
        ),
    )
    described = []
    for name, model, quantization, title, text in files:
        path = folder / f"{name}.tflite"
        # The runtime for browsers takes no batches of a free size.
        l0keras.export_tflite(model, path, quantization, batch_size=1)
        described.append({"file": path.name, "title": title, "text": text})
    write_json(os.fspath(folder / "index.json"), described)


def _describe(model):
    units = [
        model.get_layer(name).output.shape[-1]
        for name in ("conv1", "conv2", "fc1")
    ]
    return (
        f"{model.count_params():,} weights, {'-'.join(map(str, units))} units"
    )


class _Handler(http.server.SimpleHTTPRequestHandler):
    # Whatever the machine says of these endings.
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *arguments):
        """Is silent."""


def server(workdir, port=0):
    """A server of a folder for this machine alone, to be started.

    Args:
        workdir: the folder.
        port: a number; 0 for one that is free.

    Returns:
        An `http.server.ThreadingHTTPServer`, which is a context manager.
    """
    handler = functools.partial(_Handler, directory=os.fspath(workdir))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


@program.main(errors=(RuntimeError, OSError))
def main():
    fill(FLAGS.workdir)
    if not FLAGS.port:
        print(f"The page is in {FLAGS.workdir}.")
        return
    with server(FLAGS.workdir, FLAGS.port) as serving:
        print(f"http://localhost:{serving.server_port} (Ctrl-C ends it)")
        serving.serve_forever()


if __name__ == "__main__":
    program.run(main, define_flags)
