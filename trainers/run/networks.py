"""The networks that can be trained, and how they get their gates."""

import dataclasses
import functools
from collections.abc import Callable

import keras

import l0keras
from l0keras import models


@dataclasses.dataclass(frozen=True)
class Network:
    """A network by its name in flags.

    Args:
        build: a function of `l0keras.models`.
        paper: the method whose paper says where the gates are; `None` where
            `sparsify` finds places for them whatever the method.
        gated_layers: how many layers may have a price, decay and drop rate of
            their own; 0 where one number is for all.
    """

    build: Callable
    paper: str | None = None
    gated_layers: int = 0


def _wide_resnet(depth, width):
    return Network(functools.partial(models.wide_resnet, depth, width), "l0")


def _resnet(depth):
    return Network(functools.partial(models.resnet, depth), "dep_l0")


def _lstm(input_shape, **arguments):
    """Classifies an image after its last row, or each step of a sequence."""
    if len(input_shape) == 3:
        return models.lstm(input_shape, units=128, **arguments)
    return models.lstm(
        input_shape, units=200, return_sequences=True, **arguments
    )


NETWORKS = {
    "lenet5": Network(models.lenet5, "l0", 4),
    "lenet5_pytorch": Network(
        functools.partial(models.lenet5, variant="pytorch"), "l0", 5
    ),
    "mlp": Network(models.mlp, "l0", 3),
    "wrn_10_1": _wide_resnet(10, 1),
    "wrn_16_4": _wide_resnet(16, 4),
    "wrn_28_10": _wide_resnet(28, 10),
    "vgg16": Network(models.vgg16, "dep_l0"),
    # So small that two cores can train it many times.
    "vgg7": Network(
        functools.partial(models.vgg, ((16, 2), (32, 2), (64, 2))), "dep_l0"
    ),
    "resnet8": _resnet(8),
    "resnet20": _resnet(20),
    "resnet56": _resnet(56),
    "resnet50": Network(models.resnet50, "dep_l0"),
    "resnet18": Network(models.resnet18),
    "cifar_cnn": Network(models.cifar_cnn),
    "densenet40": Network(models.densenet),
    "mobilenet_v1": Network(models.mobilenet_v1),
    "lstm": Network(_lstm),
}


def build(
    config,
    input_shape,
    classes,
    train_examples,
    normalization=None,
    epoch_steps=None,
):
    """Builds the network of an experiment.

    Args:
        config: a `Config`.
        input_shape: the shape of one example: of an image, which has one
            class, or of a sequence, `(steps, features)`, which has one for
            each step.
        classes: the number of classes.
        train_examples: the number of training examples, by which the settings
            in the form of Louizos et al. are divided.
        normalization: means and standard deviations of the channels, a pair
            of lists, by which the network itself normalizes its images; or
            `None`.
        epoch_steps: the number of steps in an epoch, for gates with a target:
            they are at it after `config.epochs`.

    Returns:
        A built model from examples to logits.

    Raises:
        ValueError: a network that is not for examples of this kind.
    """
    network = NETWORKS[config.model]
    decay, price = config.weight_decay, config.l0_lambda
    if network.gated_layers:
        decay = [value / train_examples for value in decay]
    if config.method == "l0":
        price = [value / train_examples for value in price]
    gates = {"l0": _spread(price), "sample_per": config.sample_per}
    if config.is_cut:
        gates = {"sample_per": config.sample_per, "target": config.targets}
        gates["steps"] = config.epochs * epoch_steps
    if config.droprate_init:
        gates["droprate_init"] = _spread(config.droprate_init)
    if config.method == "dep_l0":
        gates["dependence"] = config.dependence
        if config.dependence == "none":
            gates["dependence"] = None
        if not config.is_cut:
            gates["cost"] = config.cost
            gates["penalty"] = config.penalty
    arguments = {"l2": _spread(decay), "seed": config.seed}
    if not config.use_bias:
        arguments["use_bias"] = False
    # The papers' places are where a price is paid; a target finds its own.
    by_hand = config.method == network.paper and not config.is_cut
    if config.is_gated and by_hand:
        arguments |= {"gates": "paper", **gates}
    model = network.build(input_shape=input_shape, classes=classes, **arguments)
    # The trailing axes of images are height, width and channels.
    steps = input_shape[:1] if len(input_shape) == 2 else ()
    if model.output_shape[1:-1] != tuple(steps):
        raise ValueError(
            "Argument `model` must be lstm for sequences, which have a class "
            f"for each step. Received: model={config.model}"
        )
    if config.is_gated and not by_hand:
        model = l0keras.sparsify(model, seed=config.seed, **gates)
    return _normalizing(model, normalization)


def build_plain(config, input_shape, classes, normalization=None):
    """Builds the network without gates and penalties, to compare with."""
    arguments = {} if config.use_bias else {"use_bias": False}
    model = NETWORKS[config.model].build(
        input_shape=input_shape,
        classes=classes,
        seed=config.seed,
        **arguments,
    )
    return _normalizing(model, normalization)


def freeze_gates(model):
    """Lets the rest of a training have test gates and no penalty on them.

    Args:
        model: a model, whose gates and what makes them stop training. It has
            to be compiled again.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, (l0keras.HardConcreteGate, l0keras.GateGenerator)):
            layer.trainable = False


def _spread(values):
    values = list(values)
    return values[0] if len(values) == 1 else values


def _normalizing(model, normalization):
    if normalization is None:
        return model
    mean, deviation = normalization
    return keras.Sequential(
        [
            keras.Input(model.input_shape[1:], name="image"),
            keras.layers.Normalization(
                mean=list(mean),
                variance=[value**2 for value in deviation],
                name="normalization",
            ),
            model,
        ],
        name=f"normalized_{model.name}",
    )
