"""Files that TensorFlow Lite for Microcontrollers runs, or that are refused."""

import os

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from keras.initializers import GlorotUniform

import l0keras
from l0keras.export.micro import check
from l0keras.export.micro import runtime

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written with the TensorFlow backend",
)
tflite_micro = pytest.importorskip("tflite_micro").runtime

X = np.random.default_rng(0).normal(size=(64, 8, 4)).astype("float32")


def sequential(*stack, shape=(8, 4)):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *stack])


def export(model, path, mode, x=X, **kwargs):
    return l0keras.export_tflite(model, path, mode, x, target="micro", **kwargs)


def outputs_on_micro(path, inputs, arena_bytes):
    """The integers that the runtime computes of integers."""
    interpreter = tflite_micro.Interpreter.from_file(
        str(path), arena_size=arena_bytes
    )
    found = []
    for one in inputs:
        interpreter.set_input(one[None], 0)
        interpreter.invoke()
        found.append(interpreter.get_output(0)[0])
    return np.array(found)


def test_a_network_runs_in_its_arena_as_in_litert(tmp_path):
    path = tmp_path / "m.tflite"
    model = sequential(
        layers.Conv1D(6, 3, activation="gelu"),
        layers.LSTM(5, return_sequences=True),
        layers.GlobalMaxPooling1D(),
        layers.Dense(3, activation="softmax"),
    )
    file = export(model, path, "int8")
    assert {"AddConv2D", "AddFullyConnected", "AddSoftmax"} < set(
        file.micro.ops
    )
    assert "AddGelu" not in file.micro.ops
    assert len(set(file.micro.ops)) == len(file.micro.ops)
    assert file.micro.max_steps <= 3 and file.micro.max_difference is None
    signature = l0keras.export.signature(path)
    (details,) = signature["inputs"].values()
    assert details["shape"] == (1, 8, 4)
    integers = np.round(X / details["scale"]) + details["zero_point"]
    integers = np.clip(integers, -128, 127).astype("int8")
    found = outputs_on_micro(path, integers[:9], file.micro.arena_bytes)
    (details,) = signature["outputs"].values()
    found = (found.astype(float) - details["zero_point"]) * details["scale"]
    np.testing.assert_allclose(found, model.predict(X[:9], verbose=0), atol=0.1)
    # It is no larger than it has to be.
    with pytest.raises(RuntimeError):
        outputs_on_micro(path, integers[:1], file.micro.arena_bytes - 512)
    assert f"arena of {file.micro.arena_bytes:,} bytes" in str(file)


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_a_stripped_model_that_reads_a_part_of_its_input(mode, tmp_path):
    model = sequential(
        l0keras.layers.L0Dense(16, activation="relu"),
        l0keras.layers.L0Dense(5),
        shape=(64,),
    )
    for gate in l0keras.gates_of(model):
        odd = np.arange(gate.log_alpha.shape[0]) % 2
        gate.log_alpha.assign(np.where(odd, 8.0, -8.0))
    x = np.random.default_rng(0).random((64, 64), "float32")
    file = export(model, tmp_path / "m.tflite", mode, x)
    selects = {"int8": ["AddGather"], "int16x8": []}[mode]
    assert sorted(file.micro.ops) == sorted(["AddFullyConnected", *selects])
    plain = l0keras.export_tflite(model, tmp_path / "p.tflite", mode, x)
    assert file.max_difference == plain.max_difference


class Largest(layers.Layer):
    def call(self, x):
        return ops.max(x, axis=1)


@pytest.mark.parametrize(
    "mode, stack, message",
    [
        (
            "int8",
            [layers.Dense(4), layers.Activation("softplus", name="plus")],
            "operation EXP of layer 'plus' fails, .*INT8 != FLOAT32",
        ),
        (
            "int16x8",
            [layers.Dense(4), Largest(name="largest")],
            "operation REDUCE_MAX of layer 'largest' fails, Only float32",
        ),
        (
            None,
            [layers.Reshape((4, 2, 2, 2)), layers.Conv3D(2, 2, name="solid")],
            "it lacks operation CONV_3D of layer 'solid'",
        ),
        (
            "int16x8",
            [
                layers.Dense(4, kernel_initializer=GlorotUniform(seed=3)),
                layers.LayerNormalization(name="norm"),
                layers.Dense(3, kernel_initializer=GlorotUniform(seed=3)),
            ],
            "differs by .* steps.* first in operation \\w+ of layer 'norm'",
        ),
    ],
    ids=["exp", "max", "conv", "rsqrt"],
)
def test_what_micro_lacks_is_named_and_nothing_written(
    mode, stack, message, tmp_path
):
    with pytest.raises(RuntimeError, match=message):
        export(sequential(*stack), tmp_path / "m.tflite", mode)
    assert not os.listdir(tmp_path)


def test_other_numbers_than_those_of_litert_are_refused(tmp_path, monkeypatch):
    found = {"y": (1.0, 0.0, 99.0, False), "z": (9e-6, 0.0, 0.5, True)}
    monkeypatch.setattr(
        check,
        "_run",
        lambda path, origin, job, *args: (
            (["ADD"], 640) if job is runtime.load else found
        ),
    )
    monkeypatch.setattr(check, "_place", lambda *args: "")
    origin = type("Origin", (), {"name": "m"})
    file = check.check_micro("m.tflite", origin, [{}])
    assert (file.max_steps, file.max_difference) == (1, 9e-6)
    # If a step in the inputs changes LiteRT's outputs by as much.
    found["y"] = (3.0, 3.0, 99.0, False)
    assert check.check_micro("m.tflite", origin, [{}]).max_steps == 3
    for worse in (
        {"y": (2.0, 1.0, 99.0, False)},
        {"z": (2e-5, 1e-6, 0.5, True)},
    ):
        found = worse
        (name,) = worse
        with pytest.raises(RuntimeError, match=f"'{name}' differs by"):
            check.check_micro("m.tflite", origin, [{}])


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"target": "tiny"}, "`target` must be None or 'micro'"),
        ({"quantization": "dynamic"}, "weights of integers"),
        ({"quantization": "float16"}, "no kernels for float16"),
        ({"quantization": {"": None}}, "one of None, 'int8', 'int16x8'"),
        ({"sparse_encoding": True}, "no kernels for it"),
        ({}, "inputs of known sizes .* 'free' of shape"),
    ],
)
def test_bad_arguments(kwargs, message, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, 4), name="free"),
            layers.Conv1D(2, 3),
            layers.GlobalAveragePooling1D(),
        ]
    )
    kwargs = {"target": "micro", **kwargs}
    with pytest.raises(ValueError, match=message):
        l0keras.export_tflite(model, tmp_path / "m.tflite", **kwargs)
    assert not os.listdir(tmp_path)


def test_a_runtime_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tflite_micro", None)
    with pytest.raises(ImportError, match=r"l0keras\[micro\]"):
        export(sequential(layers.Dense(2)), tmp_path / "m.tflite", None)


def test_steps_of_a_recurrent_model(tmp_path):
    model = sequential(layers.GRU(6, return_sequences=True), layers.Dense(3))
    file = export(model, tmp_path / "m.tflite", "int8", streaming=True)
    assert file.states and file.micro.max_steps <= 3
