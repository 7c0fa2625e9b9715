"""Every network, from wherever it has its gates to a LiteRT file."""

import functools
import importlib

import numpy as np
import pytest

import l0keras
from l0keras import models
from tests import networks

SMALL = {
    "mlp": functools.partial(models.mlp, (6, 6, 1), hidden=(20, 10)),
    "lenet5": models.lenet5,
    "lenet5_pytorch": functools.partial(models.lenet5, variant="pytorch"),
    "wide_resnet": functools.partial(models.wide_resnet, 10, 1, 0.0, (8, 8, 3)),
    "vgg": functools.partial(models.vgg, ((6, 2), (8, 1)), (8, 8, 3)),
    "resnet": functools.partial(models.resnet, 8, 8, (8, 8, 3)),
    "resnet18": functools.partial(models.resnet18, (8, 8, 3)),
    "resnet50": functools.partial(models.resnet50, (32, 32, 3), 5),
    "densenet": functools.partial(
        models.densenet, 10, 4, input_shape=(8, 8, 3)
    ),
    "mobilenet_v1": functools.partial(models.mobilenet_v1, 1 / 8, (16, 16, 3)),
}
FULL = {
    "mlp": models.mlp,
    "lenet5": models.lenet5,
    "wide_resnet": models.wide_resnet,
    "vgg16": models.vgg16,
    "resnet": models.resnet,
    "resnet18": models.resnet18,
    "resnet50": models.resnet50,
    "densenet": models.densenet,
    "mobilenet_v1": models.mobilenet_v1,
}
L0 = ("mlp", "lenet5", "lenet5_pytorch", "wide_resnet")
DEP_L0 = ("vgg", "vgg16", "resnet", "resnet50")
WAYS = {
    "paper": lambda build: build(gates="paper", seed=0),
    "paper, forward": lambda build: build(
        gates="paper", dependence="forward", seed=0
    ),
    "sparsify": lambda build: l0keras.sparsify(build(seed=0), seed=0),
    "sparsify, forward": lambda build: l0keras.sparsify(
        build(seed=0), dependence="forward", seed=0
    ),
    "sparsify, backward": lambda build: l0keras.sparsify(
        build(seed=0), dependence="backward", seed=0
    ),
}


def cases(builders):
    return [
        (name, way)
        for name in builders
        for way in WAYS
        if not way.startswith("paper")
        or name in DEP_L0
        or (way == "paper" and name in L0)
    ]


def close_some(model, rng):
    """Closes about half of all gates, wherever their log_alpha comes from."""
    weights = [
        weight for weight in model.weights if "log_alpha" in weight.name
    ] or model.get_layer("gate_generator").trainable_weights
    for weight in weights:
        weight.assign(rng.normal(0.5, 3.0, weight.shape))


def check(build, way, path):
    rng = np.random.default_rng(5)
    model = WAYS[way](build)
    dense = build()
    networks.move_normalization(model, rng)
    close_some(model, rng)
    stripped = l0keras.strip(model)
    assert stripped.count_params() < 0.95 * dense.count_params()
    assert l0keras.count_macs(stripped) < 0.95 * l0keras.count_macs(dense)
    images = rng.normal(size=(2, *model.input_shape[1:])).astype("float32")
    (expected,) = networks.outputs_of(model, images)
    size = np.abs(expected - expected.mean(0)).max()
    assert size > 1e-6
    allowed = 1e-5 * np.abs(expected).max()
    (got,) = networks.outputs_of(stripped, images)
    np.testing.assert_allclose(got, expected, rtol=0, atol=allowed)
    l0keras.export_tflite(stripped, path)
    got = l0keras.export.run_tflite(path, images)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2 * allowed)


# Files of many layers take their time.
MANY_LAYERS = (
    "wide_resnet",
    "resnet18",
    "resnet50",
    "densenet",
    "mobilenet_v1",
)


def marked(name, way):
    slow = (
        way in ("sparsify", "sparsify, backward")
        or (name in MANY_LAYERS and way != "paper")
        or name == "resnet50"
    )
    return pytest.param(name, way, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(
    "name, way", [marked(name, way) for name, way in cases(SMALL)]
)
def test_small(name, way, tmp_path, monkeypatch):
    for narrow in ("resnet18", "resnet50"):
        # `l0keras.models.resnet18` is the function, not the module.
        module = importlib.import_module(f"l0keras.models.{narrow}")
        monkeypatch.setattr(module, "_FILTERS", 8)
    check(SMALL[name], way, str(tmp_path / "model.tflite"))


@pytest.mark.slow
@pytest.mark.parametrize("name, way", cases(FULL))
def test_as_published(name, way, tmp_path):
    check(FULL[name], way, str(tmp_path / "model.tflite"))
