"""Runs LiteRT files on arrays, with numpy and ai-edge-litert alone.

    python run_files.py FOLDER INPUTS OUTPUTS

runs, for each `NAME.npz` in INPUTS, the file `NAME.tflite` in FOLDER on arrays
by the names of its inputs with all examples in their first axis, and writes the
outputs of all examples, one after the other, to `NAME.npz` in OUTPUTS. Arrays
have the types of the file. The Python of another processor runs this too.
"""

import pathlib
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def run(path, inputs):
    """The outputs of a file, a dictionary of arrays by their names."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    runner = interpreter.get_signature_runner()
    examples = len(next(iter(inputs.values())))
    results = [
        runner(**{name: array[i : i + 1] for name, array in inputs.items()})
        for i in range(examples)
    ]
    return {
        name: np.concatenate([result[name] for result in results])
        for name in results[0]
    }


def main(folder, inputs, outputs):
    for path in sorted(pathlib.Path(inputs).glob("*.npz")):
        with np.load(path) as arrays:
            file = pathlib.Path(folder, path.stem + ".tflite")
            results = run(file, dict(arrays))
        np.savez(pathlib.Path(outputs, path.name), **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
