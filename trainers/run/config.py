"""What an experiment is: its settings, their flags and their checks."""

import dataclasses

from absl import flags

import l0keras
from trainers.run import networks
from trainers.run.methods import METHODS
from trainers.run.methods import TARGETS
from trainers.run.methods import Connections
from trainers.run.methods import Gates
from trainers.run.methods import Groups
from trainers.run.methods import Sizes
from trainers.run.settings import ABOVE_0
from trainers.run.settings import AT_LEAST_0
from trainers.run.settings import AT_LEAST_1
from trainers.run.settings import SHARE_ABOVE_0
from trainers.run.settings import SHARE_BELOW_1
from trainers.run.settings import ascend
from trainers.run.settings import check_value
from trainers.run.settings import each
from trainers.run.settings import listed
from trainers.run.settings import one_of
from trainers.run.settings import setting

# Keras averages all weights that train, or none of them; the best weights are
# those that were evaluated.
_NO_AVERAGE = ("ema_momentum=0", lambda c: not c.ema_momentum)
# What is cut to a target is another model, with averages of its own.
_NO_AVERAGE_OR_CUT = (
    "ema_momentum=0",
    lambda c: not c.ema_momentum or c.is_cut,
)


@dataclasses.dataclass(frozen=True)
class Config(Sizes, Groups, Connections, Gates):
    """The settings that make a training run what it is.

    Where it runs (the workdir, where the data lie, how many threads) is not
    among them: a run may be resumed elsewhere. Each setting is described by
    the help text of its flag, see `python -m trainers.train --help`. Those of
    a family of methods stand in a class of their own, and must have their
    defaults where the method is of another family.

    Raises:
        ValueError: an argument out of its range, or one that is about
            nothing.
    """

    model: str = setting(
        "lenet5", "Network to train.", choices=tuple(networks.NETWORKS)
    )
    use_bias: bool = setting(
        True,
        "Biases in the layers of mlp.",
        needs=[("model=mlp", lambda c: c.model == "mlp")],
    )
    dataset: str = setting(
        "mnist",
        "Data set: digits, an image classification set by its name in "
        "tensorflow_datasets, or timit, for lstm and with --manual_dir.",
        (bool, "a name"),
    )
    image_size: int = setting(
        0,
        "Side in pixels to which images are resized; 0 leaves them.",
        AT_LEAST_0,
    )
    augmentation: str = setting(
        "none",
        "Random changes of training images: crop_flip for images of one size, "
        "imagenet for those of several.",
        choices=("none", "crop_flip", "imagenet"),
    )
    validation_examples: int = setting(
        0,
        "Number of training examples to hold out, for the metrics of epochs.",
        AT_LEAST_0,
    )
    method: str = setting(
        "l0",
        "Method of training: a plain one (dense), with gates (l0, dep_l0), "
        "with sparse connections (deep_r, soft_deep_r), with groups of weights "
        "(wgsef, group_lasso, hspg), or, to compare with, a random mask that "
        "stays (static) or weights that shrink to 0 (l1).",
        choices=("dense", *(m for ms in METHODS.values() for m in ms)),
    )
    weight_decay: tuple = setting(
        (0.0,),
        "L2, 0.5 * weight_decay * w^2 for each weight. For lenet5 and mlp "
        "coupled with the gates, in the form of l0_lambda and divided "
        "likewise.",
        each(AT_LEAST_0),
        per_layer=True,
    )
    epochs: int = setting(
        200, "Number of passes over the training examples.", AT_LEAST_1
    )
    patience: int = setting(
        0,
        "Number of epochs without a better validation accuracy after which "
        "training stops and takes the best weights; 0 never stops.",
        AT_LEAST_0,
        needs=[
            ("validation_examples", lambda c: c.validation_examples > 0),
            _NO_AVERAGE,
        ],
        conflicts=[("a target", lambda c: c.is_cut)],
    )
    finetune_epochs: int = setting(
        0,
        "Number of further epochs without a penalty, with frozen gates, with "
        "exactly k of the groups, or after the cut to a target.",
        AT_LEAST_0,
        needs=[
            (
                "a method with gates or of groups",
                lambda c: c.is_gated or c.has_groups,
            ),
            _NO_AVERAGE_OR_CUT,
        ],
    )
    batch_size: int = setting(
        100, "Number of examples in a step, over all replicas.", AT_LEAST_1
    )
    optimizer: str = setting(
        "adam", "Optimizer of the weights.", choices=("adam", "sgd")
    )
    learning_rate: float = setting(
        1e-3, "Learning rate of the first epoch.", ABOVE_0
    )
    momentum: float = setting(
        0.0,
        "Momentum of sgd.",
        SHARE_BELOW_1,
        needs=[("optimizer=sgd", lambda c: c.optimizer == "sgd")],
    )
    nesterov: bool = setting(
        False,
        "Nesterov's form of the momentum.",
        needs=[("a momentum", lambda c: c.momentum > 0)],
    )
    lr_schedule: str = setting(
        "steps",
        "Schedule of the learning rate: steps at lr_boundaries, or a cosine "
        "that ends at 0.",
        choices=("steps", "cosine"),
    )
    lr_boundaries: tuple = setting(
        (),
        "Numbers of the epochs after which learning rates are multiplied by "
        "their factor, with commas.",
        (ascend, "whole numbers above 0, ascending"),
        needs=[("lr_schedule=steps", lambda c: c.lr_schedule == "steps")],
    )
    lr_decay: float = setting(
        0.1,
        "Factor of the learning rate at each of lr_boundaries.",
        SHARE_ABOVE_0,
    )
    ema_momentum: float = setting(
        0.999,
        "Momentum of the averaged weights; 0 for none.",
        (SHARE_BELOW_1[0], "in [0, 1), where 0 turns averaging off"),
    )
    precision: str = setting(
        "float32",
        "Dtype policy of training; results, and what is trained on after a "
        "cut, are in float32.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    seed: int = setting(
        0, "Seed of weights, noise and the order of examples.", AT_LEAST_0
    )
    strategy: str = setting(
        "none",
        "Distribution of each batch: mirrored splits it over all GPUs, or over "
        "the logical CPUs.",
        choices=("none", "mirrored"),
    )
    num_logical_cpus: int = setting(
        0,
        "Number of devices into which the CPU is split; 0 leaves it.",
        AT_LEAST_0,
    )

    def __post_init__(self):
        fields = dataclasses.fields(self)
        for field in fields:
            if field.metadata["choices"]:
                one_of(
                    field.name,
                    getattr(self, field.name),
                    field.metadata["choices"],
                )
        for field in fields:
            self._check_alone(field)
        for field in fields:
            why = self._about_nothing(field)
            if why and getattr(self, field.name) != field.default:
                allowed = str(listed(field.default)) or "unset"
                raise ValueError(
                    f"Argument `{field.name}` must be {allowed} {why}. "
                    f"Received: {field.name}="
                    f"{listed(getattr(self, field.name))}"
                )

    def _check_alone(self, field):
        value, check = getattr(self, field.name), field.metadata["check"]
        if field.metadata["per_layer"]:
            if value == field.default == ():
                return
            self._check_count(field.name, value)
        if check:
            check_value(field.name, value, *check)

    def _about_nothing(self, field):
        """Why a setting is about nothing, or `None` where it is not."""
        for text, there in field.metadata["needs"]:
            if not there(self):
                return f"without {text}"
        for text, there in field.metadata["conflicts"]:
            if there(self):
                return f"with {text}"
        return None

    def _check_count(self, name, values):
        count = networks.NETWORKS[self.model].gated_layers
        if len(values) not in (1, count):
            each = f" or one for each of the {count} gated layers"
            raise ValueError(
                f"Argument `{name}` must be one number{each if count else ''} "
                f"of {self.model!r}. Received: {name}={listed(values)}"
            )
        if any(value != value for value in values):
            raise ValueError(
                f"Argument `{name}` must be numbers. "
                f"Received: {name}={listed(values)}"
            )

    @property
    def is_gated(self):
        """Whether the method is one with gates."""
        return self.method in METHODS["gates"]

    @property
    def has_connections(self):
        """Whether the method makes single weights 0."""
        return self.method in METHODS["connections"]

    @property
    def has_groups(self):
        """Whether the method makes groups of weights 0."""
        return self.method in METHODS["groups"]

    @property
    def targets(self):
        """The sizes that are asked for, a list of `l0keras.targets.Target`."""
        found = []
        for of in TARGETS:
            value = getattr(self, f"target_{of}")
            if value > 1:
                whole = int(value) if value % 1 == 0 else value
                found.append(l0keras.targets.Target(of, at_most=whole))
            elif value:
                found.append(l0keras.targets.Target(of, value))
        return found

    @property
    def is_cut(self):
        """Whether the network is cut to a size before `finetune_epochs`."""
        return self.is_gated and self.has_target

    def without_sparsity(self):
        """The settings of the same network and epochs by method=dense."""
        changes = {
            field.name: field.default
            for family in (Sizes, Groups, Connections, Gates)
            for field in dataclasses.fields(family)
        }
        if networks.NETWORKS[self.model].gated_layers and self.is_gated:
            # It was coupled with the gates.
            changes["weight_decay"] = type(self).weight_decay
        changes["epochs"] = self.epochs + self.finetune_epochs
        changes["finetune_epochs"] = 0
        return dataclasses.replace(self, method="dense", **changes)

    def to_json(self):
        """The settings as a dict of strings, numbers and lists."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, record):
        """The settings of a record that `to_json` made.

        Args:
            record: a dict; settings that an older version did not have yet
                are those of today's defaults.

        Raises:
            ValueError: a setting that is none, or out of its range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(record) - known:
            raise ValueError(
                f"Argument `record` must have names among {sorted(known)}. "
                f"Received: {sorted(unknown)}"
            )
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in record.items()
            }
        )


CHOICES = {
    field.name: field.metadata["choices"]
    for field in dataclasses.fields(Config)
    if field.metadata["choices"]
}


def define_flags(flag_values=flags.FLAGS):
    """Defines the flags of an experiment, one for each setting.

    Args:
        flag_values: where to define them.
    """
    for field in dataclasses.fields(Config):
        define = {
            str: flags.DEFINE_string,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            bool: flags.DEFINE_boolean,
            tuple: flags.DEFINE_list,
        }[field.type]
        default = field.default
        if field.type is tuple:
            default = [str(value) for value in default]
        text = field.metadata["text"]
        if field.name in CHOICES:
            text = f"{text} One of {', '.join(CHOICES[field.name])}."
        define(field.name, default, text, flag_values=flag_values)


def from_flags(flag_values=flags.FLAGS):
    """The experiment that the flags describe.

    Raises:
        ValueError: a flag out of its range.
    """
    return Config(
        **{
            field.name: value_of(field.name, flag_values)
            for field in dataclasses.fields(Config)
        }
    )


def value_of(name, flag_values=flags.FLAGS):
    """The setting that a flag describes.

    Args:
        name: of the setting.
        flag_values: where it is defined.

    Raises:
        ValueError: not numbers, where there have to be some.
    """
    value = getattr(flag_values, name)
    is_list = isinstance(getattr(Config, name), tuple)
    return _numbers(name, value) if is_list else value


def _numbers(name, texts):
    try:
        return tuple(float(text) for text in texts if text != "")
    except ValueError:
        raise ValueError(
            f"Argument `{name}` must be numbers with commas between. "
            f"Received: {name}={listed(texts)}"
        ) from None
