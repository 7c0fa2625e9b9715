"""What an experiment is: its settings, their flags and their checks."""

import dataclasses

from absl import flags

from trainers.run import networks

CHOICES = {
    "model": tuple(networks.NETWORKS),
    "method": (
        "dense",
        "l0",
        "dep_l0",
        "deep_r",
        "soft_deep_r",
        "static",
        "l1",
        "wgsef",
        "group_lasso",
        "hspg",
    ),
    "dependence": ("none", "forward", "backward"),
    "cost": ("params", "macs"),
    "penalty": ("joint", "reference"),
    "sample_per": ("batch", "example"),
    "budget": ("layer", "global"),
    "optimizer": ("adam", "sgd"),
    "lr_schedule": ("steps", "cosine"),
    "augmentation": ("none", "crop_flip", "imagenet"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    "strategy": ("none", "mirrored"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings that make a training run what it is.

    Where it runs (the workdir, where the data lie, how many threads) is not
    among them: a run may be resumed elsewhere.

    Args:
        model: a name in `networks.NETWORKS`.
        dataset: a name that `input_pipeline.load` knows.
        method: `"dense"` for a plain training; `"l0"` for the gates of
            Louizos et al. or `"dep_l0"` for those of Li and Ji; `"deep_r"` or
            `"soft_deep_r"` for the sparse connections of Bellec et al.;
            `"static"` or `"l1"` for what these are compared with, a random
            mask that stays and weights that shrink to 0; `"wgsef"` for the
            groups of Refael et al., by proximal steps and then half-space
            steps, `"hspg"` for the same with the group lasso (Chen et al.)
            and `"group_lasso"` for that by proximal steps alone.
        dependence: of the gates of `"dep_l0"`: the order in which layers
            depend on each other, or `"none"`.
        cost: what `"dep_l0"` charges for.
        penalty: how it does, `"reference"` as the authors' code.
        l0_lambda: the price of one weight in the form of the method's paper,
            which for `"l0"` is before division by the number of training
            examples; one number for all gated layers or, for networks with
            `gated_layers`, one for each.
        weight_decay: L2, 0.5 * weight_decay * w^2 for each weight; for
            networks with `gated_layers` coupled with the gates, in the form
            before that division, and one number or one for each of them.
        droprate_init: the share of gates closed at the start, likewise;
            empty for the network's own.
        sample_per: `"batch"` or `"example"`.
        connectivity: the share of connections, one number or one for each
            kernel.
        l1: what shrinks connections, times the learning rate.
        temperature: of their noise; 0 is none for `"deep_r"` and
            lr * l1^2 / 18 for `"soft_deep_r"`.
        budget: whether each kernel keeps its number of connections or all
            together do.
        group_lambda: the strength of the penalty on groups of weights that
            make a channel, one number or one for each of the model's
            `l0keras.weight_groups`.
        k: the share of these groups to keep, in (0, 1], likewise: what
            `"wgsef"` asks for all the time, and what any method of groups
            chooses before `finetune_epochs`.
        epsilon: of half-space steps, in [0, 1), likewise.
        switch_at: the share of the epochs whose steps are proximal, in
            [0, 1]; those of the others are half-space steps.
        use_bias: whether `"mlp"` has biases.
        epochs, batch_size: as in any training.
        validation_examples: how many of the training examples to hold out;
            the metrics of epochs are theirs then, and not of the test set.
        patience: after how many epochs without a better validation accuracy
            to stop and take the best weights; 0 trains to the end.
        finetune_epochs: more epochs after those, without a penalty: with
            frozen gates, and without the L2 that is coupled with them, or
            with exactly `k` of the groups.
        optimizer: `"adam"` or `"sgd"`, with Keras's defaults.
        learning_rate: that of the first epoch.
        momentum, nesterov: of `"sgd"`.
        lr_schedule: `"steps"` for a learning rate that is multiplied by
            `lr_decay` after some epochs, `"cosine"` for one that falls to 0
            with the last step.
        lr_boundaries: the numbers of epochs after which learning rates are
            multiplied by a factor.
        lr_decay: that factor.
        gate_learning_rate: of Adam for the gates, 0 to train them as the
            weights.
        gate_lr_decay: the factor for that one.
        ema_momentum: of the averaged weights, in [0, 1); 0 for none.
        image_size: the side to which images are resized, 0 for none.
        augmentation: see `input_pipeline.load`.
        precision: the dtype policy of training; results are in float32.
        seed: an integer of at least 0.
        strategy: `"none"` or `"mirrored"`.
        num_logical_cpus: into how many devices the CPU is split, 0 to leave
            it; replicas change which noise is drawn.

    Raises:
        ValueError: an argument out of its range, or several that do not go
            together.
    """

    model: str = "lenet5"
    dataset: str = "mnist"
    method: str = "l0"
    dependence: str = "none"
    cost: str = "params"
    penalty: str = "joint"
    l0_lambda: tuple = (0.1,)
    weight_decay: tuple = (0.0,)
    droprate_init: tuple = ()
    sample_per: str = "batch"
    connectivity: tuple = (0.01,)
    l1: float = 1e-4
    temperature: float = 0.0
    budget: str = "layer"
    group_lambda: tuple = (1e-2,)
    k: tuple = (0.1,)
    epsilon: tuple = (0.0,)
    switch_at: float = 0.5
    use_bias: bool = True
    epochs: int = 200
    validation_examples: int = 0
    patience: int = 0
    finetune_epochs: int = 0
    batch_size: int = 100
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    lr_schedule: str = "steps"
    lr_boundaries: tuple = ()
    lr_decay: float = 0.1
    gate_learning_rate: float = 0.0
    gate_lr_decay: float = 1.0
    ema_momentum: float = 0.999
    image_size: int = 0
    augmentation: str = "none"
    precision: str = "float32"
    seed: int = 0
    strategy: str = "none"
    num_logical_cpus: int = 0

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            _one_of(name, getattr(self, name), allowed)
        if not self.dataset:
            raise ValueError("Argument `dataset` must not be empty.")
        for names, test, allowed in (
            ("epochs batch_size", lambda v: v >= 1, "at least 1"),
            (
                "seed image_size num_logical_cpus finetune_epochs "
                "gate_learning_rate l1 temperature validation_examples "
                "patience",
                lambda v: v >= 0,
                "at least 0",
            ),
            ("learning_rate", lambda v: v > 0, "above 0"),
            ("lr_decay gate_lr_decay", lambda v: 0 < v <= 1, "in (0, 1]"),
            ("momentum", lambda v: 0 <= v < 1, "in [0, 1)"),
            (
                "ema_momentum",
                lambda v: 0 <= v < 1,
                "in [0, 1), where 0 turns averaging off",
            ),
            ("lr_boundaries", _ascend, "whole numbers above 0, ascending"),
            (
                "group_lambda",
                lambda vs: vs and all(v >= 0 for v in vs),
                "at least 0",
            ),
            (
                "k",
                lambda vs: vs and all(0 < v <= 1 for v in vs),
                "in (0, 1]",
            ),
            (
                "epsilon",
                lambda vs: vs and all(0 <= v < 1 for v in vs),
                "in [0, 1)",
            ),
            ("switch_at", lambda v: 0 <= v <= 1, "in [0, 1]"),
            (
                "connectivity",
                lambda vs: vs and all(0 < v <= 1 for v in vs),
                "in (0, 1]",
            ),
        ):
            for name in names.split():
                _check(name, getattr(self, name), test, allowed)
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
        self._check_together()

    def _check_together(self):
        """Whether each setting has something to be about."""
        masked = self.method in ("deep_r", "soft_deep_r", "static")
        shrinks = self.method in ("deep_r", "soft_deep_r", "l1")
        moves = self.method in ("deep_r", "soft_deep_r")
        for name, needed, there in (
            ("dependence", "method=dep_l0", self.method == "dep_l0"),
            ("cost", "method=dep_l0", self.method == "dep_l0"),
            ("penalty", "method=dep_l0", self.method == "dep_l0"),
            ("droprate_init", "method=l0", self.method != "dep_l0"),
            (
                "finetune_epochs",
                "a method with gates or of groups",
                self.is_gated or self.has_groups,
            ),
            # Keras averages all weights that train, or none of them.
            ("finetune_epochs", "ema_momentum=0", not self.ema_momentum),
            ("gate_learning_rate", "a method with gates", self.is_gated),
            (
                "gate_lr_decay",
                "a gate_learning_rate",
                self.gate_learning_rate > 0,
            ),
            ("connectivity", "a method of sparse connections", masked),
            ("l1", "a method that shrinks connections", shrinks),
            ("temperature", "method=deep_r or soft_deep_r", moves),
            ("budget", "method=deep_r", self.method == "deep_r"),
            ("group_lambda", "a method of groups", self.has_groups),
            (
                "k",
                "method=wgsef, or finetune_epochs of groups",
                self.method == "wgsef"
                or (self.has_groups and self.finetune_epochs > 0),
            ),
            (
                "epsilon",
                "method=wgsef or hspg",
                self.method in ("wgsef", "hspg"),
            ),
            (
                "switch_at",
                "method=wgsef or hspg",
                self.method in ("wgsef", "hspg"),
            ),
            (
                "lr_boundaries",
                "lr_schedule=steps",
                self.lr_schedule == "steps",
            ),
            ("use_bias", "model=mlp", self.model == "mlp"),
            (
                "patience",
                "validation_examples",
                self.validation_examples > 0,
            ),
            # The best weights are those that were evaluated.
            ("patience", "ema_momentum=0", not self.ema_momentum),
            ("momentum", "optimizer=sgd", self.optimizer == "sgd"),
            ("nesterov", "a momentum", self.momentum > 0),
        ):
            default, value = getattr(Config, name), getattr(self, name)
            if value != default and not there:
                allowed = str(_listed(default)) or "unset"
                raise ValueError(
                    f"Argument `{name}` must be {allowed} without {needed}. "
                    f"Received: {name}={_listed(value)}"
                )

    @property
    def is_gated(self):
        """Whether the method is one with gates."""
        return self.method in ("l0", "dep_l0")

    @property
    def has_connections(self):
        """Whether the method makes single weights 0."""
        return self.method in ("deep_r", "soft_deep_r", "static", "l1")

    @property
    def has_groups(self):
        """Whether the method makes groups of weights 0."""
        return self.method in ("wgsef", "group_lasso", "hspg")

    def _per_layer(self, name):
        values = getattr(self, name)
        count = networks.NETWORKS[self.model].gated_layers
        if len(values) not in (1, count):
            each = f" or one for each of the {count} gated layers"
            raise ValueError(
                f"Argument `{name}` must be one number{each if count else ''} "
                f"of {self.model!r}. Received: {name}={_listed(values)}"
            )
        # NaN compares false with everything, also inside min and max.
        if any(value != value for value in values):
            raise ValueError(
                f"Argument `{name}` must be numbers. "
                f"Received: {name}={_listed(values)}"
            )
        return values

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
        "model": "The network.",
        "dataset": "The data: digits, an image classification set by its name "
        "in tensorflow_datasets, or timit, for lstm and with --manual_dir.",
        "method": "How to train: plainly, with gates (l0, dep_l0), with sparse "
        "connections (deep_r, soft_deep_r), with groups of weights (wgsef, "
        "group_lasso, hspg), or with a random mask that stays or weights that "
        "shrink to 0, to compare with.",
        "dependence": "Which way the gates of dep_l0 depend on each other.",
        "cost": "What dep_l0 charges for.",
        "penalty": "How dep_l0 charges, reference as its authors' code.",
        "l0_lambda": "The price of one weight as in the method's paper, for "
        "l0 divided by the number of training examples here; one number, or "
        "for lenet5 and mlp one for each gated layer, with commas.",
        "weight_decay": "L2, 0.5 * weight_decay * w^2 for each weight. For "
        "lenet5 and mlp coupled with the gates, in the form of l0_lambda and "
        "divided likewise.",
        "droprate_init": "The share of gates closed at the start, one number "
        "or one for each; empty for the network's own.",
        "sample_per": "Who shares a sample of the gates.",
        "connectivity": "The share of connections, one number or one for each "
        "kernel.",
        "l1": "What shrinks connections, times the learning rate.",
        "temperature": "Of the noise of connections.",
        "budget": "Whether each kernel keeps its number of connections.",
        "group_lambda": "The strength of the penalty on groups of weights, "
        "one number or one for each layer's groups.",
        "k": "The share of the groups to keep, likewise: what wgsef asks "
        "for, and what is chosen before finetune_epochs.",
        "epsilon": "Of half-space steps: how little a group may shrink to "
        "become 0, likewise.",
        "switch_at": "The share of the epochs of proximal steps, before "
        "half-space steps.",
        "use_bias": "Whether the mlp has biases.",
        "validation_examples": "How many training examples to hold out.",
        "patience": "After how many epochs without a better validation "
        "accuracy to stop and take the best weights; 0 never.",
        "epochs": "How often to go through the training examples.",
        "finetune_epochs": "How often after that, with frozen gates or with "
        "exactly k of the groups.",
        "batch_size": "Examples in a step, over all replicas.",
        "optimizer": "What makes the steps.",
        "learning_rate": "The learning rate of the first epoch.",
        "momentum": "Momentum of sgd.",
        "nesterov": "Whether it is Nesterov's.",
        "lr_schedule": "How the learning rate falls.",
        "lr_boundaries": "After which epochs learning rates are multiplied by "
        "a factor, with commas.",
        "lr_decay": "That factor.",
        "gate_learning_rate": "The learning rate of Adam for the gates; 0 "
        "trains them as the weights.",
        "gate_lr_decay": "The factor for that one.",
        "ema_momentum": "Momentum of the averaged weights; 0 for none.",
        "image_size": "The side to which images are resized; 0 leaves them.",
        "augmentation": "What is changed at random: crop_flip for images of "
        "one size, imagenet for those of several.",
        "precision": "The dtype policy of training; results are in float32.",
        "seed": "Fixes weights, noise and the order of examples.",
        "strategy": "mirrored splits each batch over all GPUs, or over the "
        "logical CPUs.",
        "num_logical_cpus": "Splits the CPU into this many devices.",
    }
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
        text = texts[field.name]
        if field.name in CHOICES:
            text = f"{text} One of {', '.join(CHOICES[field.name])}."
        define(field.name, default, text, flag_values=flag_values)


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


def _ascend(values):
    whole = all(value % 1 == 0 for value in values)
    return whole and all(a < b for a, b in zip((0, *values), values))


def _listed(value):
    if isinstance(value, (tuple, list)):
        return ",".join(str(entry) for entry in value)
    return value
