"""What an experiment is: its settings, their flags and their checks."""

import dataclasses

from absl import flags

from l0keras import models

# Each network with the number of its gated layers.
MODELS = {"lenet5": (models.lenet5, 4), "mlp": (models.mlp, 3)}
METHODS = ("dense", "l0")
OPTIMIZERS = ("adam", "sgd")
STRATEGIES = ("none", "mirrored")
SAMPLE_PER = ("batch", "example")


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings that make a training run what it is.

    Where it runs (the workdir, where the data lie, how many threads) is not
    among them: a run may be resumed elsewhere.

    Args:
        model: a name in `MODELS`.
        dataset: a name that `input_pipeline.load` knows.
        method: a name in `METHODS`.
        l0_lambda: the price of one weight in the paper's form, before
            division by the number of training examples; one number for all
            gated layers or one for each.
        weight_decay: coupled L2 in the same form, likewise.
        droprate_init: the share of gates closed at the start, likewise;
            empty for the network's own.
        sample_per: `"batch"` or `"example"`.
        epochs, batch_size, learning_rate: as in any training.
        optimizer: a name in `OPTIMIZERS`, with Keras's defaults.
        ema_momentum: of the averaged weights, in [0, 1); 0 for none.
        image_size: the side to which images are resized, 0 for none.
        seed: an integer of at least 0.
        strategy: a name in `STRATEGIES`.
        num_logical_cpus: into how many devices the CPU is split, 0 to leave
            it; replicas change which noise is drawn.

    Raises:
        ValueError: an argument out of its range.
    """

    model: str = "lenet5"
    dataset: str = "mnist"
    method: str = "l0"
    l0_lambda: tuple = (0.1,)
    weight_decay: tuple = (0.0,)
    droprate_init: tuple = ()
    sample_per: str = "batch"
    epochs: int = 200
    batch_size: int = 100
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    ema_momentum: float = 0.999
    image_size: int = 0
    seed: int = 0
    strategy: str = "none"
    num_logical_cpus: int = 0

    def __post_init__(self):
        for name, allowed in (
            ("model", MODELS),
            ("method", METHODS),
            ("optimizer", OPTIMIZERS),
            ("strategy", STRATEGIES),
            ("sample_per", SAMPLE_PER),
        ):
            _one_of(name, getattr(self, name), allowed)
        if not self.dataset:
            raise ValueError("Argument `dataset` must not be empty.")
        for name in ("epochs", "batch_size"):
            _check(name, getattr(self, name), lambda v: v >= 1, "at least 1")
        for name in ("seed", "image_size", "num_logical_cpus"):
            _check(name, getattr(self, name), lambda v: v >= 0, "at least 0")
        _check("learning_rate", self.learning_rate, lambda v: v > 0, "above 0")
        _check(
            "ema_momentum",
            self.ema_momentum,
            lambda v: 0 <= v < 1,
            "in [0, 1), where 0 turns averaging off",
        )
        for name in ("l0_lambda", "weight_decay"):
            values = self._per_layer(name)
            _check(name, values, lambda vs: min(vs) >= 0, "at least 0")
        if self.droprate_init:
            values = self._per_layer("droprate_init")
            _check(
                "droprate_init",
                values,
                lambda vs: 0 < min(vs) and max(vs) < 1,
                "in (0, 1)",
            )

    def _per_layer(self, name):
        values = getattr(self, name)
        count = MODELS[self.model][1]
        if len(values) not in (1, count):
            raise ValueError(
                f"Argument `{name}` must be one number or one for each of the "
                f"{count} gated layers of {self.model!r}. "
                f"Received: {name}={_listed(values)}"
            )
        # NaN compares false with everything, also inside min and max.
        if any(value != value for value in values):
            raise ValueError(
                f"Argument `{name}` must be numbers. "
                f"Received: {name}={_listed(values)}"
            )
        return values

    def build(self, input_shape, classes, train_examples):
        """Builds the network of the experiment.

        Args:
            input_shape: the shape of one image.
            classes: the number of classes.
            train_examples: the number of training examples, by which lambda
                and weight decay are divided.

        Returns:
            A built `keras.Sequential` that gives logits.
        """

        def spread(values, scale):
            values = [value / scale for value in values]
            return values[0] if len(values) == 1 else values

        arguments = {"l2": spread(self.weight_decay, train_examples)}
        if self.method == "l0":
            arguments["gates"] = "paper"
            arguments["l0"] = spread(self.l0_lambda, train_examples)
            arguments["sample_per"] = self.sample_per
        if self.droprate_init:
            arguments["droprate_init"] = spread(self.droprate_init, 1)
        return MODELS[self.model][0](
            input_shape, classes, seed=self.seed, **arguments
        )

    def build_plain(self, input_shape, classes):
        """Builds the network without gates and penalties, to compare with."""
        return MODELS[self.model][0](input_shape, classes, seed=self.seed)

    def to_json(self):
        """The settings as a dict of strings, numbers and lists."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


def define_flags(flag_values=flags.FLAGS):
    """Defines the flags of an experiment, one for each setting.

    Args:
        flag_values: where to define them.
    """
    texts = {
        "model": f"The network: one of {', '.join(MODELS)}.",
        "dataset": "The data: digits, or an image classification set by its "
        "name in tensorflow_datasets.",
        "method": f"How to train: one of {', '.join(METHODS)}.",
        "l0_lambda": "The price of one weight as in the paper, divided by "
        "the number of training examples here; one number, or one for each "
        "gated layer, with commas.",
        "weight_decay": "L2, in the same form and divided likewise; coupled "
        "with the gates.",
        "droprate_init": "The share of gates closed at the start, likewise; "
        "empty for the network's own.",
        "sample_per": f"Who shares a sample of the gates: one of "
        f"{', '.join(SAMPLE_PER)}.",
        "epochs": "How often to go through the training examples.",
        "batch_size": "Examples in a step, over all replicas.",
        "learning_rate": "The learning rate, constant.",
        "optimizer": f"One of {', '.join(OPTIMIZERS)}.",
        "ema_momentum": "Momentum of the averaged weights; 0 for none.",
        "image_size": "The side to which images are resized; 0 leaves them.",
        "seed": "Fixes weights, noise and the order of examples.",
        "strategy": f"One of {', '.join(STRATEGIES)}; mirrored splits each "
        "batch over all GPUs, or over the logical CPUs.",
        "num_logical_cpus": "Splits the CPU into this many devices.",
    }
    for field in dataclasses.fields(Config):
        define = {
            str: flags.DEFINE_string,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            tuple: flags.DEFINE_list,
        }[field.type]
        default = field.default
        if field.type is tuple:
            default = [str(value) for value in default]
        define(field.name, default, texts[field.name], flag_values=flag_values)


def define_data_flags(flag_values=flags.FLAGS):
    """Defines where data lie, for all programs that read any."""
    flags.DEFINE_string(
        "data_dir",
        None,
        "Where tensorflow_datasets keeps data sets; its own default if unset.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "manual_dir",
        None,
        "Original files of the data set that are already here; downloaded if "
        "unset.",
        flag_values=flag_values,
    )


def define_device_flags(flag_values=flags.FLAGS):
    """Defines how much of the machine to use."""
    flags.DEFINE_integer(
        "num_threads",
        0,
        "Threads of TensorFlow, within and between operations; 0 leaves the "
        "choice to it.",
        flag_values=flag_values,
    )


def from_flags(flag_values=flags.FLAGS):
    """The experiment that the flags describe.

    Raises:
        ValueError: a flag out of its range.
    """
    settings = {}
    for field in dataclasses.fields(Config):
        value = getattr(flag_values, field.name)
        if field.type is tuple:
            value = _numbers(field.name, value)
        settings[field.name] = value
    return Config(**settings)


def _numbers(name, texts):
    try:
        return tuple(float(text) for text in texts if text != "")
    except ValueError:
        raise ValueError(
            f"Argument `{name}` must be numbers with commas between. "
            f"Received: {name}={_listed(texts)}"
        ) from None


def _one_of(name, value, allowed):
    if value not in allowed:
        raise ValueError(
            f"Argument `{name}` must be one of {', '.join(allowed)}. "
            f"Received: {name}={value}"
        )


def _check(name, value, test, allowed):
    if not test(value):
        raise ValueError(
            f"Argument `{name}` must be {allowed}. "
            f"Received: {name}={_listed(value)}"
        )


def _listed(value):
    if isinstance(value, (tuple, list)):
        return ",".join(str(entry) for entry in value)
    return value
