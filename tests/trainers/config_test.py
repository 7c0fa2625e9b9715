import dataclasses
import glob
import pathlib

import pytest
from absl import flags

import l0keras
from trainers import config as config_lib
from trainers import train
from trainers.config import Config

EXPERIMENTS = pathlib.Path(config_lib.__file__).parent / "experiments"


def parse(*arguments):
    values = flags.FlagValues()
    train.define_flags(values)
    values(["train", *arguments])
    return values


def test_defaults_of_flags_are_those_of_the_config():
    assert config_lib.from_flags(parse()) == Config()


def test_each_setting_has_a_flag():
    given = {
        "model": "mlp",
        "dataset": "digits",
        "method": "dense",
        "l0_lambda": (1.0, 2.0, 3.0),
        "weight_decay": (0.5,),
        "droprate_init": (0.1, 0.2, 0.3),
        "sample_per": "example",
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 0.5,
        "optimizer": "sgd",
        "ema_momentum": 0.0,
        "image_size": 8,
        "seed": 9,
        "strategy": "mirrored",
        "num_logical_cpus": 2,
    }
    assert set(given) == {f.name for f in dataclasses.fields(Config)}
    texts = [
        f"--{name}="
        + (
            ",".join(map(str, value))
            if isinstance(value, tuple)
            else str(value)
        )
        for name, value in given.items()
    ]
    assert config_lib.from_flags(parse(*texts)) == Config(**given)


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("model", "lenet", "one of lenet5, mlp"),
        ("method", "l1", "one of dense, l0"),
        ("optimizer", "adamw", "one of adam, sgd"),
        ("strategy", "tpu", "one of none, mirrored"),
        ("sample_per", "epoch", "one of batch, example"),
        ("l0_lambda", "-0.1", "at least 0"),
        ("l0_lambda", "0.1,nan,0,0", "numbers"),
        ("l0_lambda", "0.1,x", "numbers with commas"),
        ("l0_lambda", "1,2,3", "one number or one for each of the 4 gated"),
        ("l0_lambda", "", "one number or one for each of the 4 gated"),
        ("weight_decay", "-1", "at least 0"),
        ("droprate_init", "0", r"in \(0, 1\)"),
        ("droprate_init", "0.5,0.5,0.5,1", r"in \(0, 1\)"),
        ("droprate_init", "0.5,0.5", "one number or one for each"),
        ("epochs", "0", "at least 1"),
        ("batch_size", "0", "at least 1"),
        ("learning_rate", "0", "above 0"),
        ("learning_rate", "nan", "above 0"),
        ("ema_momentum", "1", r"in \[0, 1\)"),
        ("seed", "-1", "at least 0"),
        ("image_size", "-1", "at least 0"),
        ("num_logical_cpus", "-1", "at least 0"),
    ],
)
def test_refuses_wrong_values(name, value, allowed):
    with pytest.raises(
        ValueError, match=f"`{name}` must be {allowed}.*Received: {name}="
    ):
        config_lib.from_flags(parse(f"--{name}={value}"))


def test_price_and_decay_are_divided_by_the_examples():
    config = Config(model="mlp", l0_lambda=(0.6,), weight_decay=(1, 2, 3))
    gates = l0keras.gates_of(config.build((8, 8, 1), 10, 100))
    assert [gate.l0 for gate in gates] == pytest.approx([0.006] * 3)
    assert [gate.l2 for gate in gates] == pytest.approx([0.01, 0.02, 0.03])
    # The authors' drop rates unless told otherwise.
    assert [gate.droprate_init for gate in gates] == [0.2, 0.5, 0.5]


def test_settings_reach_the_gates():
    config = Config(
        model="mlp", droprate_init=(0.1,), sample_per="example", seed=5
    )
    gates = l0keras.gates_of(config.build((8, 8, 1), 10, 100))
    assert {gate.droprate_init for gate in gates} == {0.1}
    assert {gate.sample_per for gate in gates} == {"example"}


def test_dense_method_has_no_gates():
    config = Config(model="mlp", method="dense", weight_decay=(2.0,))
    model = config.build((8, 8, 1), 10, 100)
    assert l0keras.gates_of(model) == []
    assert len(model.losses) == 6
    assert config.build_plain((8, 8, 1), 10).losses == []


@pytest.mark.parametrize(
    "path",
    sorted(glob.glob(str(EXPERIMENTS / "*.flags"))),
    ids=lambda p: p[-30:],
)
def test_flagfiles_are_valid_and_explained(path):
    config = config_lib.from_flags(parse(f"--flagfile={path}"))
    name = pathlib.Path(path).stem
    assert name.startswith(f"{config.dataset}_{config.model}_{config.method}")
    head = pathlib.Path(path).read_text().split("--model")[0]
    for word in ("arXiv:", "table", "python -m trainers.train", name):
        assert word in head
    # The published settings.
    assert (config.epochs, config.batch_size) == (200, 100)
    assert (config.optimizer, config.learning_rate) == ("adam", 1e-3)
    # Where it departs from the paper's, it says so.
    assert config.weight_decay == (0.0,) or "regularisation" in head
    assert config.sample_per == "batch" or "minibatch" in head
    if not name.endswith("sep"):
        assert config.l0_lambda == (0.1,)


def test_there_are_the_papers_flagfiles():
    names = {path.stem for path in EXPERIMENTS.glob("*.flags")}
    assert {
        "mnist_lenet5_l0",
        "mnist_lenet5_l0_sep",
        "mnist_mlp_l0",
        "mnist_mlp_l0_sep",
    } <= names
