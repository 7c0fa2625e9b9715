"""Experiments with groups of weights: constants, and each from end to end."""

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
from trainers.run.metrics import predict
from trainers.run.training import Training

SHARED = {
    "method": "wgsef",
    "k": (0.34,),
    "epsilon": (0.0,),
    "switch_at": 0.5,
    "weight_decay": (0.0,),
    "finetune_epochs": 0,
    "optimizer": "sgd",
    "nesterov": False,
    "lr_boundaries": (),
    "ema_momentum": 0.0,
}
SMALL = SHARED | {
    "group_lambda": (1e-2,),
    "epochs": 300,
    "batch_size": 128,
    "learning_rate": 0.01,
    "lr_schedule": "cosine",
    "augmentation": "crop_flip",
}
CIFAR10 = SMALL | {"dataset": "cifar10", "image_size": 0}
FASHION = SMALL | {"dataset": "fashion_mnist", "image_size": 32}
CIFAR100 = SHARED | {
    "dataset": "cifar100",
    "group_lambda": (1e-5,),
    "epochs": 150,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "lr_schedule": "steps",
    "augmentation": "crop_flip",
}
IMAGENET = SHARED | {
    "dataset": "imagenet2012",
    "group_lambda": (0.05,),
    "learning_rate": 0.01,
    "lr_schedule": "cosine",
    "image_size": 224,
    "augmentation": "imagenet",
}
MNIST = SHARED | {
    "dataset": "mnist",
    "epochs": 15,
    "batch_size": 32,
    "learning_rate": 1e-4,
    "momentum": 0.95,
    "lr_schedule": "steps",
    "augmentation": "none",
}
CONSTANTS = {
    "mnist_lenet5_pytorch_wgsef": MNIST,
    "cifar10_vgg16_wgsef": CIFAR10,
    "cifar10_resnet18_wgsef": CIFAR10,
    "cifar10_mobilenet_v1_wgsef": CIFAR10,
    "fashion_mnist_vgg16_wgsef": FASHION,
    "fashion_mnist_resnet18_wgsef": FASHION,
    "fashion_mnist_mobilenet_v1_wgsef": FASHION,
    "cifar100_vgg16_wgsef": CIFAR100,
    "cifar100_densenet40_wgsef": CIFAR100,
    "imagenet2012_resnet50_wgsef": IMAGENET,
}
# All channels but those that hold the logits, and a third of each layer's.
GROUPS = {
    "lenet5_pytorch": (6 + 16 + 120 + 84, 2 + 5 + 41 + 29),
    "vgg16": (4224, 1437),
    "resnet18": (2880, 981),
    "mobilenet_v1": (5984, 2035),
    "densenet40": (16 + 2 * 448, 306),
    "resnet50": (11_456, 3899),
}
SHORT = ("--epochs=2", "--batch_size=4")


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_those_of_the_paper(name):
    config = read(name)
    found = {key: getattr(config, key) for key in CONSTANTS[name]}
    assert found == CONSTANTS[name]
    # What else there is was chosen, and is said to be.
    own, chosen = head(name).replace("#", "").split("Not known and chosen here")
    assert "Not run yet" in own
    chosen = " ".join(chosen.split())
    assert "for all layers" in chosen and "epsilon" in chosen
    assert ("k, which" in chosen) == (config.dataset != "imagenet2012")
    assert ("the momentum" in chosen) == (config.dataset != "mnist")
    assert ("half of the epochs" in chosen) == (config.epochs != 300)
    augmented = config.augmentation != "none"
    assert ("how images are augmented" in chosen) == augmented


@pytest.mark.parametrize("name", CONSTANTS)
def test_heads_say_how_the_other_experiments_are_run(name):
    paper, exact, *others = [
        read(name, *overrides) for overrides in commands(name)
    ]
    assert paper == read(name)
    assert exact.finetune_epochs > 0
    if paper.epochs != 300:
        assert not others
        return
    [plain] = others
    assert plain.method == "dense" and plain.weight_decay == (0.03,)
    assert plain.batch_size == 128 and plain.learning_rate == 0.01


def test_small_images_are_enlarged_and_then_cropped_and_mirrored(small_sets):
    config = read("fashion_mnist_vgg16_wgsef")
    data = input_pipeline.load(
        config.dataset,
        small_sets,
        image_size=config.image_size,
        augmentation=config.augmentation,
    )
    assert data.input_shape == (32, 32, 1)
    [(images, labels)] = data.train_batches(sets.TRAIN, seed=0, epochs=1)
    assert images.shape == (sets.TRAIN, 32, 32, 1)
    assert sorted(labels.numpy()) == sorted(data.train_labels)
    padded = np.pad(data.train_images[..., 0] / 255.0, [(0, 0), (4, 4), (4, 4)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), (1, 2))
    for image in images.numpy()[..., 0]:
        near = [
            np.abs(windows - seen).max(axis=(-1, -2)).min()
            for seen in (image, image[:, ::-1])
        ]
        assert min(near) < 1e-6


def end_to_end(name, small_sets, tmp_path, *overrides):
    config = read(name, *SHORT, *overrides)
    report = Training(config, tmp_path, data_dir=small_sets).run()
    assert report["epochs"] == config.epochs + config.finetune_epochs
    stages = {"sparse", "stripped", "tflite"}
    assert set(report["test_error"]) == stages
    data = input_pipeline.load(
        config.dataset, small_sets, image_size=config.image_size
    )
    # A few large steps make logits of any size.
    scale = np.abs(predict(str(tmp_path / "model.tflite"), data)).max()
    for difference in report["max_difference"].values():
        assert difference < 1e-4 * scale
    counts = report["groups"]
    assert (
        sum(own["groups"] for own in counts),
        sum(own["asked"] for own in counts),
    ) == GROUPS[config.model]
    for own in counts:
        zeros = [own[stage] for stage in ("prox", "half_space", "top_k")]
        assert min(zeros) >= 0
        assert own["kept"] + sum(zeros) == own["groups"]
        if config.finetune_epochs:
            assert own["kept"] == own["asked"]
            assert own["top_k"] > 0
        else:
            assert own["top_k"] == 0
    assert (tmp_path / "groups.png").read_bytes()[1:4] == b"PNG"
    assert json.loads((tmp_path / "report.json").read_text()) == report
    return report


@pytest.mark.slow
@pytest.mark.parametrize("name", CONSTANTS)
def test_recipes_from_end_to_end(name, small_sets, tmp_path):
    overrides = ["--finetune_epochs=1"]
    if "imagenet" in name:
        overrides.append("--image_size=64")
    report = end_to_end(name, small_sets, tmp_path, *overrides)
    # A third of the inputs and of the outputs of most layers.
    assert report["params"]["stripped"] < 0.3 * report["params"]["dense"]
    assert report["macs"]["stripped"] < 0.3 * report["macs"]["dense"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mnist_lenet5_pytorch_wgsef", "cifar10_vgg16_wgsef"]
)
def test_recipes_without_a_last_stage(name, small_sets, tmp_path):
    report = end_to_end(name, small_sets, tmp_path)
    saved = keras.saving.load_model(tmp_path / "model.keras")
    # Nothing that is 0 is left in it, and all that is not.
    small = keras.saving.load_model(tmp_path / "stripped.keras")
    kept = sum(own["kept"] for own in report["groups"])
    own = l0keras.weight_groups(small)
    assert sum(group.size for group in own) == kept
    assert saved.count_params() >= small.count_params()


@pytest.mark.slow
def test_recipe_on_two_replicas(small_sets, tmp_path):
    printed, report = run_on_two_replicas(
        "mnist_lenet5_pytorch_wgsef", SHORT, small_sets, tmp_path
    )
    assert "epoch 3/3" in printed
    assert [own["kept"] for own in report["groups"]] == [2, 5, 41, 29]
