"""The families of methods, and the settings of each."""

import dataclasses
import math

from trainers.run.settings import AT_LEAST_0
from trainers.run.settings import SHARE
from trainers.run.settings import SHARE_ABOVE_0
from trainers.run.settings import SHARE_BELOW_1
from trainers.run.settings import SHARE_INSIDE
from trainers.run.settings import each
from trainers.run.settings import setting

# The methods of each family, whose settings are below.
METHODS = {
    "gates": ("l0", "dep_l0"),
    "connections": ("deep_r", "soft_deep_r", "static", "l1"),
    "groups": ("wgsef", "group_lasso", "hspg"),
}


# What a size may be of, in the names of settings.
TARGETS = ("macs", "params", "units")


def _method(text, *names):
    return text, lambda c: c.method in names


_GATES = _method("a method with gates", *METHODS["gates"])
_DEP_L0 = _method("method=dep_l0", "dep_l0")
_GROUPS = _method("a method of groups", *METHODS["groups"])
_HALF_SPACE = _method("method=wgsef or hspg", "wgsef", "hspg")
_TARGET = ("a target", lambda c: c.has_target)
_CHOSEN = (
    "finetune_epochs, before which groups are chosen",
    lambda c: not c.has_groups or c.finetune_epochs > 0,
)
_SIZED = "a method with gates or of groups"


def _target(of, text, needs):
    return setting(
        0.0,
        f"{text} that the network shall have at most in the end: up to 1 a "
        "share of the dense network's, above 1 a number; 0 asks for none. It "
        f"takes the place of {of}.",
        (lambda v: 0 <= v < math.inf, "a number of at least 0"),
        needs=needs,
    )


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes that a method is asked for, and cuts on the way there."""

    shrink: bool = setting(
        False,
        "Cuts of the network while it is trained, where they save time.",
        needs=[_method(_SIZED, *METHODS["gates"], *METHODS["groups"])],
        conflicts=[("patience", lambda c: c.patience > 0)],
    )
    target_macs: float = _target(
        "l0_lambda, and of k for groups",
        "Multiply-accumulates of one example",
        [_method(_SIZED, *METHODS["gates"], *METHODS["groups"]), _CHOSEN],
    )
    target_params: float = _target(
        "l0_lambda, of k for groups and of connectivity for deep_r and static, "
        "which count weights other than 0",
        "Number of weights",
        [
            _method(
                f"{_SIZED}, deep_r or static",
                *METHODS["gates"],
                *METHODS["groups"],
                "deep_r",
                "static",
            ),
            _CHOSEN,
        ],
    )
    target_units: float = _target(
        "l0_lambda, and of k for groups",
        "Number of channels and units that can be cut",
        [_method(_SIZED, *METHODS["gates"], *METHODS["groups"]), _CHOSEN],
    )

    @property
    def has_target(self):
        """Whether any size is asked for."""
        return any(getattr(self, f"target_{of}") for of in TARGETS)


@dataclasses.dataclass(frozen=True)
class Gates:
    """The settings of methods with gates."""

    l0_lambda: tuple = setting(
        (0.1,),
        "Price of one weight as in the method's paper, for l0 divided by the "
        "number of training examples here; one number, or for lenet5 and mlp "
        "one for each gated layer, with commas.",
        each(AT_LEAST_0),
        per_layer=True,
        conflicts=[_TARGET],
    )
    droprate_init: tuple = setting(
        (),
        "Share of the gates that are closed at the start, one number or one "
        "for each gated layer; empty for the network's own.",
        each(SHARE_INSIDE),
        needs=[("method=l0", lambda c: c.method != "dep_l0")],
        per_layer=True,
        conflicts=[_TARGET],
    )
    sample_per: str = setting(
        "batch",
        "Examples that share a sample of the gates: those of a batch, or none.",
        choices=("batch", "example"),
    )
    dependence: str = setting(
        "none",
        "Order in which the gates of dep_l0 depend on those of other layers.",
        choices=("none", "forward", "backward"),
        needs=[_DEP_L0],
    )
    cost: str = setting(
        "params",
        "Quantity that dep_l0 charges for.",
        choices=("params", "macs"),
        needs=[_DEP_L0],
        conflicts=[_TARGET],
    )
    penalty: str = setting(
        "joint",
        "Form of the penalty of dep_l0; reference is its authors' code.",
        choices=("joint", "reference"),
        needs=[_DEP_L0],
        conflicts=[_TARGET],
    )
    gate_learning_rate: float = setting(
        0.0,
        "Learning rate of Adam for the gates; 0 trains them as the weights.",
        AT_LEAST_0,
        needs=[_GATES],
        conflicts=[_TARGET],
    )
    gate_lr_decay: float = setting(
        1.0,
        "Factor of the gates' learning rate at each of lr_boundaries.",
        SHARE_ABOVE_0,
        needs=[("a gate_learning_rate", lambda c: c.gate_learning_rate > 0)],
    )


@dataclasses.dataclass(frozen=True)
class Connections:
    """The settings of methods that make single weights 0."""

    connectivity: tuple = setting(
        (0.01,),
        "Share of the connections, one number or one for each kernel.",
        each(SHARE_ABOVE_0),
        needs=[
            _method(
                "a method of sparse connections",
                "deep_r",
                "soft_deep_r",
                "static",
            )
        ],
        conflicts=[_TARGET],
    )
    l1: float = setting(
        1e-4,
        "Step by which connections shrink, in units of the learning rate.",
        AT_LEAST_0,
        needs=[
            _method(
                "a method that shrinks connections",
                "deep_r",
                "soft_deep_r",
                "l1",
            )
        ],
    )
    temperature: float = setting(
        0.0,
        "Temperature of the noise of connections; 0 is none for deep_r and "
        "lr * l1^2 / 18 for soft_deep_r.",
        AT_LEAST_0,
        needs=[
            _method("method=deep_r or soft_deep_r", "deep_r", "soft_deep_r")
        ],
    )
    budget: str = setting(
        "layer",
        "Part of the network that keeps its number of connections: each "
        "kernel, or all together.",
        choices=("layer", "global"),
        needs=[_method("method=deep_r", "deep_r")],
    )


@dataclasses.dataclass(frozen=True)
class Groups:
    """The settings of methods that make groups of weights 0."""

    group_lambda: tuple = setting(
        (1e-2,),
        "Strength of the penalty on groups of weights that make a channel, "
        "one number or one for each layer's groups.",
        each(AT_LEAST_0),
        needs=[_GROUPS],
    )
    k: tuple = setting(
        (0.1,),
        "Share of the groups to keep, one number or one for each layer's "
        "groups: wgsef asks for it all the time, other methods choose it "
        "before finetune_epochs.",
        each(SHARE_ABOVE_0),
        needs=[
            (
                "method=wgsef, or finetune_epochs of groups",
                lambda c: (
                    c.method == "wgsef"
                    or (c.has_groups and c.finetune_epochs > 0)
                ),
            )
        ],
        conflicts=[_TARGET],
    )
    epsilon: tuple = setting(
        (0.0,),
        "Share of its size below which a half-space step makes a group 0, one "
        "number or one for each layer's groups.",
        each(SHARE_BELOW_1),
        needs=[_HALF_SPACE],
    )
    switch_at: float = setting(
        0.5,
        "Share of the epochs that have proximal steps; the others have "
        "half-space steps.",
        SHARE,
        needs=[_HALF_SPACE],
    )
