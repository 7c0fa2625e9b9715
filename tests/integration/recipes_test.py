"""The papers' experiments: their constants, and each from end to end."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import l0keras
from tests.integration.flagfiles import commands
from tests.integration.flagfiles import head
from tests.integration.flagfiles import read
from tests.integration.flagfiles import run_on_two_replicas
from tests.trainers.data import small_sets as sets
from trainers.data import input_pipeline
from trainers.run import networks
from trainers.run.config import Config
from trainers.run.metrics import predict
from trainers.run.training import Training

MNIST = {
    "epochs": 200,
    "batch_size": 100,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "gate_learning_rate": 0.0,
    "lr_boundaries": (),
    "augmentation": "none",
}
SGD = {"optimizer": "sgd", "momentum": 0.9}
WIDE = SGD | {
    "l0_lambda": (0.001,),
    "weight_decay": (5e-4,),
    "droprate_init": (),
    "sample_per": "batch",
    "epochs": 200,
    "finetune_epochs": 0,
    "batch_size": 128,
    "learning_rate": 0.1,
    "nesterov": True,
    "lr_boundaries": (60, 120, 160),
    "lr_decay": 0.2,
    "gate_learning_rate": 0.0,
    "ema_momentum": 0.99,
    "augmentation": "crop_flip",
}
DEPENDENT = SGD | {
    "dependence": "forward",
    "cost": "params",
    "penalty": "reference",
    "sample_per": "example",
    "nesterov": False,
    "gate_learning_rate": 1e-3,
    "ema_momentum": 0.0,
}
SMALL = DEPENDENT | {
    "weight_decay": (5e-4,),
    "epochs": 300,
    "finetune_epochs": 0,
    "batch_size": 128,
    "lr_boundaries": (60, 120, 180, 240),
    "augmentation": "crop_flip",
}
VGG16 = SMALL | {
    "l0_lambda": (1e-6,),
    "learning_rate": 0.05,
    "lr_decay": 0.2,
    "gate_lr_decay": 1.0,
}
RESNET56 = SMALL | {
    "l0_lambda": (5e-7,),
    "learning_rate": 0.1,
    "lr_decay": 0.1,
    "gate_lr_decay": 0.1,
}
RESNET50 = DEPENDENT | {
    "l0_lambda": (5e-9,),
    "weight_decay": (1e-4,),
    "epochs": 90,
    "finetune_epochs": 10,
    "batch_size": 256,
    "learning_rate": 0.1,
    "lr_boundaries": (30, 60, 90),
    "lr_decay": 0.1,
    "gate_lr_decay": 0.2,
    "image_size": 224,
    "augmentation": "imagenet",
}
CONSTANTS = {
    "mnist_lenet5_l0": MNIST | {"l0_lambda": (0.1,)},
    "mnist_lenet5_l0_sep": MNIST,
    "mnist_mlp_l0": MNIST | {"l0_lambda": (0.1,)},
    "mnist_mlp_l0_sep": MNIST,
    "cifar10_wrn_28_10_l0": WIDE,
    "cifar100_wrn_28_10_l0": WIDE,
    "cifar10_vgg16_dep_l0": VGG16,
    "cifar100_vgg16_dep_l0": VGG16,
    "cifar10_resnet56_dep_l0": RESNET56,
    "cifar100_resnet56_dep_l0": RESNET56,
    "imagenet2012_resnet50_dep_l0": RESNET50,
}
# By the papers' units, whose numbers of parameters are asked for.
SIZED = {
    "mnist_lenet5_l0_target": (20, 25, 45, 462),
    "mnist_lenet5_l0_sep_target": (9, 18, 65, 25),
    "mnist_mlp_l0_target": (219, 214, 100),
    "mnist_mlp_l0_sep_target": (266, 88, 33),
}
# The prices of gates that depend backward and of those that do not.
OTHERS = {
    "cifar10_vgg16_dep_l0": (1e-6, 5e-7),
    "cifar100_vgg16_dep_l0": (1e-6, 5e-7),
    "cifar10_resnet56_dep_l0": (1e-6, 5e-7),
    "cifar100_resnet56_dep_l0": (1e-6, 5e-7),
    "imagenet2012_resnet50_dep_l0": (5e-9, 5e-9),
}
# A few steps of each.
SHORT = ("--epochs=1", "--batch_size=4")


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_those_of_the_paper(name):
    config = read(name)
    found = {key: getattr(config, key) for key in CONSTANTS[name]}
    assert found == CONSTANTS[name]
    text = head(name)
    # Where the small ones depart from the paper's, they say so.
    if config.dataset == "mnist":
        assert config.weight_decay == (0.0,) or "regularisation" in text
        assert config.sample_per == "batch" or "minibatch" in text


def parameters(units):
    """Those of a network with so many feature maps, or inputs, of layers."""
    if len(units) == 3:
        first, second, third = units
        layers = [(first, second), (second, third), (third, 10)]
    else:
        maps, more, first, second = units
        layers = [(25, maps), (25 * maps, more), (first, second), (second, 10)]
    return sum((inputs + 1) * outputs for inputs, outputs in layers)


@pytest.mark.parametrize("name", SIZED)
def test_sizes_are_those_of_the_papers_networks(name):
    config = read(name)
    assert config.target_params == parameters(SIZED[name])
    assert "-".join(map(str, SIZED[name])) in head(name)
    assert config.epochs + config.finetune_epochs == MNIST["epochs"]
    # Nothing else is another thing than in the paper, or chosen.
    plain = {**MNIST, "weight_decay": (0.0,), "ema_momentum": 0.999}
    del plain["epochs"]
    assert {key: getattr(config, key) for key in plain} == plain
    assert "test errors" not in head(name)


@pytest.mark.parametrize("name", OTHERS)
def test_heads_say_how_the_other_experiments_are_run(name):
    configs = [read(name, *overrides) for overrides in commands(name)[1:3]]
    assert [c.dependence for c in configs] == ["backward", "none"]
    assert tuple(c.l0_lambda[0] for c in configs) == OTHERS[name]


def test_prices_of_dep_l0_are_not_divided():
    config = Config(
        model="resnet8",
        method="dep_l0",
        dependence="forward",
        penalty="reference",
        l0_lambda=(0.5,),
    )
    model = networks.build(config, (32, 32, 3), 10, 50_000)
    generator = model.get_layer("gate_generator")
    assert generator.penalty.l0 == 0.5
    assert generator.dependence == "forward"
    independent = dataclasses.replace(config, dependence="none")
    model = networks.build(independent, (32, 32, 3), 10, 50_000)
    assert model.get_layer("gate_generator").dependence is None


def test_gates_of_the_wide_network_are_the_papers():
    config = Config(model="wrn_10_1", l0_lambda=(0.001,), weight_decay=(7.0,))
    gates = l0keras.gates_of(networks.build(config, (32, 32, 3), 10, 50))
    assert [gate.l0 for gate in gates] == pytest.approx([0.001 / 50] * 3)
    # Not divided, but for the share of gates that are open at the start.
    assert [gate.l2 for gate in gates] == pytest.approx([10.0] * 3)


DEP_L0 = Config(
    model="resnet8",
    dataset="cifar10",
    image_size=8,
    method="dep_l0",
    dependence="backward",
    penalty="reference",
    l0_lambda=(1e-4,),
    weight_decay=(5e-4,),
    sample_per="example",
    epochs=1,
    finetune_epochs=1,
    batch_size=4,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    gate_learning_rate=0.1,
    ema_momentum=0.0,
    augmentation="crop_flip",
)


@pytest.mark.parametrize(
    "precision",
    ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)],
)
def test_dependent_gates_from_end_to_end(precision, small_sets, tmp_path):
    config = dataclasses.replace(DEP_L0, precision=precision)
    run = Training(config, tmp_path, data_dir=small_sets)
    generator = next(
        layer
        for layer in run._model._flatten_layers()
        if isinstance(layer, l0keras.gates.GateGenerator)
    )
    own = list(generator.trainable_variables)
    begin = [v.numpy() for v in own]
    report = run.run()
    gates, weights = run._model.optimizer.optimizers
    assert len(gates._trainable_variables) == len(own) == 8
    assert isinstance(weights, keras.optimizers.SGD)
    for variable, old in zip(own, begin, strict=True):
        assert not np.array_equal(variable.numpy(), old)
    # Fine-tuning has the decay of weights alone.
    assert not generator.trainable
    decays = sum(
        variable.regularizer is not None
        for variable in run._model.trainable_variables
    )
    assert len(run._model.losses) == decays > 0
    images = input_pipeline.load("cifar10", small_sets, image_size=8)
    images = images.sample(4)
    saved = keras.saving.load_model(tmp_path / "model.keras")
    small = keras.saving.load_model(tmp_path / "stripped.keras")
    np.testing.assert_allclose(
        small.predict(images, verbose=0),
        saved.predict(images, verbose=0),
        rtol=1e-3,
        atol=1e-4,
    )
    assert report["params"]["stripped"] <= report["params"]["dense"]
    assert (tmp_path / "units.png").exists()


def end_to_end(name, small_sets, tmp_path, *overrides):
    config = read(name, *SHORT, *overrides)
    report = Training(config, tmp_path, data_dir=small_sets).run()
    assert report["epochs"] == config.epochs + config.finetune_epochs
    assert set(report["test_error"]) == {"gated", "stripped", "tflite"}
    data = input_pipeline.load(
        config.dataset, small_sets, image_size=config.image_size
    )
    # A few large steps make logits of any size.
    path = str(tmp_path / "model.tflite")
    scale = np.abs(predict(path, data)).max()
    for difference in report["max_difference"].values():
        assert difference < 1e-4 * scale
    signature = l0keras.export.signature(path)
    [image] = signature["inputs"].values()
    side = config.image_size or 32
    assert image["shape"] == (None, side, side, 3)
    assert json.loads((tmp_path / "report.json").read_text()) == report


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CONSTANTS if n[:5] == "cifar"])
def test_recipes_of_cifar_from_end_to_end(name, small_sets, tmp_path):
    end_to_end(name, small_sets, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dependence", ["backward", "none"])
@pytest.mark.parametrize(
    "name", ["cifar10_vgg16_dep_l0", "cifar100_resnet56_dep_l0"]
)
def test_other_dependences_from_end_to_end(
    name, dependence, small_sets, tmp_path
):
    end_to_end(name, small_sets, tmp_path, f"--dependence={dependence}")


@pytest.mark.slow
@pytest.mark.parametrize("dependence", ["forward", "backward", "none"])
def test_recipe_of_imagenet_from_end_to_end(dependence, small_sets, tmp_path):
    end_to_end(
        "imagenet2012_resnet50_dep_l0",
        small_sets,
        tmp_path,
        "--finetune_epochs=1",
        "--image_size=64",
        f"--dependence={dependence}",
    )


def sparse_end_to_end(name, folder, workdir, *overrides):
    config = read(name, *overrides)
    report = Training(config, workdir, **folder).run()
    counts = report["connections"]
    for path, count in counts["of_kernels"].items():
        size = counts["sizes"][path]
        assert 0 < count <= round(config.connectivity[0] * size)
    stages = {"sparse", "stripped", "tflite", "tflite_sparse"}
    assert set(report["test_error"]) == stages
    assert (workdir / "connections.png").exists()


@pytest.mark.slow
def test_recipe_of_the_tutorial_cnn(small_sets, tmp_path):
    sparse_end_to_end(
        "cifar10_cifar_cnn_deep_r",
        {"data_dir": small_sets},
        tmp_path,
        *SHORT,
        "--validation_examples=4",
    )


@pytest.mark.slow
def test_recipe_of_speech(timit, tmp_path):
    sparse_end_to_end(
        "timit_lstm_deep_r",
        {"data_dir": timit.data_dir, "manual_dir": timit.manual_dir},
        tmp_path,
        *SHORT,
        "--validation_examples=2",
    )


@pytest.mark.slow
def test_recipe_on_two_replicas(small_sets, tmp_path):
    printed, report = run_on_two_replicas(
        "cifar10_resnet56_dep_l0", SHORT, small_sets, tmp_path
    )
    assert "epoch 2/2" in printed
    assert report["epochs"] == 2
    steps = sets.TRAIN // 4
    with np.load(tmp_path / "checkpoint.npz") as archive:
        counts = [archive[n] for n in archive.files if archive[n].shape == ()]
    assert any(np.issubdtype(c.dtype, np.integer) for c in counts)
    assert 2 * steps in [int(c) for c in counts if c.dtype.kind in "iu"]
