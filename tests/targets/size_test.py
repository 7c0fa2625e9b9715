import itertools
import re

import keras
import numpy as np
import pytest
from keras import layers

import l0keras
from l0keras.targets import Target
from l0keras.targets import Yardstick
from l0keras.targets import size_of
from l0keras.targets import sizes_of

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT files are written on TensorFlow",
)


def residual():
    """Two convolutions that add up, one of their own, and a dense layer."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    y = layers.Conv2D(6, 3, padding="same", name="inner")(x)
    y = layers.Conv2D(4, 1, use_bias=False, name="outer")(y)
    x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


# What each layer of it has, by hand.
PARAMS = {"stem": 27 * 4 + 4, "inner": 36 * 6 + 6, "outer": 24, "head": 25}
MACS = {"stem": 64 * 108, "inner": 64 * 216, "outer": 64 * 24, "head": 20}


@pytest.mark.parametrize(
    "of, by_layer", [("params", PARAMS), ("macs", MACS)], ids=["params", "macs"]
)
def test_counts(of, by_layer):
    model = residual()
    assert size_of(model, Target(of, 0.5)) == sum(by_layer.values())
    assert size_of(model, Target(of, 0.5, each=True)) == by_layer
    both = by_layer["inner"] + by_layer["outer"]
    assert size_of(model, Target(of, 0.5, where="^inner|^outer")) == both
    each = size_of(model, Target(of, 0.5, where="er$", each=True))
    assert each == {name: by_layer[name] for name in ("inner", "outer")}


def test_units_are_the_channels_that_can_be_cut():
    model = residual()
    assert size_of(model, Target("units", 0.5)) == 4 + 6
    # The stem and the outer layer make the same ones.
    assert size_of(model, Target("units", 0.5, where="stem|outer")) == 4
    each = size_of(model, Target("units", 0.5, each=True))
    assert each == {"stem": 4, "inner": 6, "outer": 4}


def test_a_shared_layer_has_its_weights_once():
    shared = layers.Dense(3, name="shared")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert size_of(model, Target("params", 0.5, where=".")) == 12
    assert size_of(model, Target("macs", 0.5)) == 18


@on_tensorflow
def test_bytes_are_those_of_the_file(tmp_path):
    model = residual()
    images = np.random.default_rng(0).normal(size=(32, 8, 8, 3))
    images = images.astype("float32")
    for quantization, data in (
        (None, None),
        ("dynamic", None),
        ("int8", images),
    ):
        path = tmp_path / f"{quantization}.tflite"
        l0keras.export_tflite(model, path, quantization, data)
        target = Target("bytes", 0.5, quantization=quantization)
        assert size_of(model, target, data) == path.stat().st_size
        # With ranges of random numbers it is as large.
        found = size_of(model, target)
        assert found == pytest.approx(path.stat().st_size, abs=16)


@on_tensorflow
def test_latency_is_that_of_the_file_in_the_best_round(monkeypatch):
    rounds = itertools.chain([80.0, 12.5], itertools.repeat(13.0))

    def measure(paths, **_):
        (path,) = paths
        inputs = l0keras.export.signature(path)["inputs"]
        assert inputs["image"]["shape"] == (None, 4)
        return [next(rounds)]

    monkeypatch.setattr(l0keras.export, "measure_latency", measure)
    image = keras.Input((4,), name="image")
    model = keras.Model(image, layers.Dense(2)(image))
    assert size_of(model, Target("latency", 0.5)) == 12.5


@on_tensorflow
def test_several_models_are_timed_in_turns(monkeypatch):
    def measure(paths, **_):
        # A microsecond for each input.
        signatures = map(l0keras.export.signature, paths)
        return [float(s["inputs"]["image"]["shape"][1]) for s in signatures]

    monkeypatch.setattr(l0keras.export, "measure_latency", measure)
    models = []
    for size in (8, 3):
        image = keras.Input((size,), name="image")
        models.append(keras.Model(image, layers.Dense(2)(image)))
    assert sizes_of(models, Target("latency", 0.5)) == [8, 3]
    assert sizes_of(models, Target("params", 0.5)) == [18, 8]


@pytest.mark.parametrize(
    "target, message",
    [
        (Target("params", 0.5, where="conv"), "stem, inner, outer, head"),
        (Target("units", 0.5, where="head"), "these layers have some: stem"),
        (Target("macs", 0.5, where="add", each=True), "about layers with macs"),
    ],
)
def test_targets_about_nothing(target, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        size_of(residual(), target)


def test_models_with_gates_are_refused():
    gated = l0keras.sparsify(residual())
    with pytest.raises(ValueError, match="must have no gates.*2 gates"):
        size_of(gated, Target("params", 0.5))


@on_tensorflow
def test_files_of_models_with_inputs_of_other_names():
    def model(units):
        return keras.Sequential([keras.Input((6,)), layers.Dense(units)])

    target = Target("bytes", 1.0, quantization="int8")
    large, small = sizes_of([model(64), model(2)], target)
    assert large > small


@on_tensorflow
def test_files_of_models_with_a_call_of_their_own():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model(keras.ops.ones((1, 4)))
    for quantization in (None, "int8"):
        target = Target("bytes", 1.0, quantization=quantization)
        assert size_of(model, target) > 500


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: size_of(m, "params"), "`target` must be an"),
        (lambda m: size_of("m.keras", Target("macs", 0.5)), "`model` must be"),
        (lambda m: sizes_of([], Target("macs", 0.5)), "`models` must be"),
        (lambda m: sizes_of(m, Target("macs", 0.5)), "`models` must be"),
        (lambda m: Yardstick("macs", m), "`target` must be an"),
        (lambda m: Yardstick(Target("macs", 0.5), m, 0.0), "`size` must be"),
    ],
)
def test_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(residual())
