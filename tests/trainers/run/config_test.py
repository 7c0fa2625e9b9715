import dataclasses
import glob
import json
import pathlib

import pytest
from absl import flags

from l0keras.targets import Target
from trainers import train
from trainers.run import config as config_lib
from trainers.run.config import Config
from trainers.run.workdir import Workdir

ROOT = pathlib.Path(config_lib.__file__).parents[2]
EXPERIMENTS = pathlib.Path(config_lib.__file__).parents[1] / "experiments"


def parse(*arguments):
    values = flags.FlagValues()
    train.define_flags(values)
    values(["train", *arguments])
    return values


def test_defaults_of_flags_are_those_of_the_config():
    assert config_lib.from_flags(parse()) == Config()


def test_each_setting_has_a_flag():
    given = {
        "model": "lenet5",
        "dataset": "digits",
        "method": "dep_l0",
        "dependence": "backward",
        "cost": "macs",
        "penalty": "reference",
        "l0_lambda": (1.0, 2.0, 3.0, 4.0),
        "weight_decay": (0.5,),
        "droprate_init": (),
        "sample_per": "example",
        "shrink": True,
        "connectivity": (0.01,),
        "l1": 1e-4,
        "temperature": 0.0,
        "budget": "layer",
        "group_lambda": (1e-2,),
        "k": (0.1,),
        "epsilon": (0.0,),
        "switch_at": 0.5,
        "use_bias": True,
        "validation_examples": 100,
        "patience": 0,
        "epochs": 3,
        "finetune_epochs": 2,
        "batch_size": 4,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "momentum": 0.9,
        "nesterov": True,
        "lr_schedule": "steps",
        "lr_boundaries": (1.0, 2.0),
        "lr_decay": 0.2,
        "gate_learning_rate": 0.01,
        "gate_lr_decay": 0.5,
        "ema_momentum": 0.0,
        "image_size": 8,
        "augmentation": "crop_flip",
        "precision": "mixed_bfloat16",
        "target_macs": 0.0,
        "target_params": 0.0,
        "target_units": 0.0,
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
    rates = parse("--droprate_init=0.1,0.2,0.3,0.4")
    assert config_lib.from_flags(rates).droprate_init == (0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("model", "lenet", "one of lenet5, lenet5_pytorch, mlp, wrn_10_1"),
        ("method", "l2", "one of dense, l0, dep_l0, deep_r, soft_deep_r"),
        ("dependence", "both", "one of none, forward, backward"),
        ("cost", "bytes", "one of params, macs"),
        ("penalty", "l1", "one of joint, reference"),
        ("augmentation", "mixup", "one of none, crop_flip, imagenet"),
        ("precision", "int8", "one of float32, mixed_bfloat16, mixed_float16"),
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
        ("momentum", "1", r"in \[0, 1\)"),
        ("lr_boundaries", "2,1", "whole numbers above 0, ascending"),
        ("lr_boundaries", "1,1", "whole numbers above 0, ascending"),
        ("lr_boundaries", "0", "whole numbers above 0, ascending"),
        ("lr_boundaries", "1.5", "whole numbers above 0, ascending"),
        ("lr_boundaries", "nan", "whole numbers above 0, ascending"),
        ("lr_decay", "0", r"in \(0, 1\]"),
        ("gate_lr_decay", "2", r"in \(0, 1\]"),
        ("connectivity", "0", r"in \(0, 1\]"),
        ("connectivity", "0.5,1.5", r"in \(0, 1\]"),
        ("connectivity", "", r"in \(0, 1\]"),
        ("l1", "-1", "at least 0"),
        ("temperature", "-1", "at least 0"),
        ("budget", "network", "one of layer, global"),
        ("lr_schedule", "linear", "one of steps, cosine"),
        ("group_lambda", "-1", "at least 0"),
        ("group_lambda", "0.1,nan", "at least 0"),
        ("group_lambda", "", "at least 0"),
        ("group_lambda", "0.1,x", "numbers with commas"),
        ("k", "0", r"in \(0, 1\]"),
        ("k", "0.5,1.5", r"in \(0, 1\]"),
        ("k", "nan", r"in \(0, 1\]"),
        ("k", "", r"in \(0, 1\]"),
        ("epsilon", "1", r"in \[0, 1\)"),
        ("epsilon", "0,-0.1", r"in \[0, 1\)"),
        ("epsilon", "nan", r"in \[0, 1\)"),
        ("epsilon", "", r"in \[0, 1\)"),
        ("switch_at", "-0.1", r"in \[0, 1\]"),
        ("switch_at", "1.1", r"in \[0, 1\]"),
        ("switch_at", "nan", r"in \[0, 1\]"),
        ("target_macs", "-0.1", "a number of at least 0"),
        ("target_params", "nan", "a number of at least 0"),
        ("target_units", "inf", "a number of at least 0"),
        ("validation_examples", "-1", "at least 0"),
        ("patience", "-1", "at least 0"),
        ("gate_learning_rate", "-1", "at least 0"),
        ("finetune_epochs", "-1", "at least 0"),
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


@pytest.mark.parametrize(
    "flag, others, message",
    [
        ("dependence=forward", [], "none without method=dep_l0"),
        ("cost=macs", ["method=dense"], "params without method=dep_l0"),
        ("penalty=reference", [], "joint without method=dep_l0"),
        ("droprate_init=0.1", ["method=dep_l0"], "unset without method=l0"),
        (
            "finetune_epochs=1",
            ["method=dense", "ema_momentum=0"],
            "0 without a method with gates or of groups",
        ),
        (
            "finetune_epochs=1",
            ["method=l1", "ema_momentum=0"],
            "0 without a method with gates or of groups",
        ),
        (
            "finetune_epochs=1",
            ["method=wgsef"],
            "0 without ema_momentum=0",
        ),
        ("finetune_epochs=1", [], "0 without ema_momentum=0"),
        (
            "gate_learning_rate=0.1",
            ["method=dense"],
            "0.0 without a method with gates",
        ),
        ("gate_lr_decay=0.1", [], "1.0 without a gate_learning_rate"),
        ("momentum=0.9", [], "0.0 without optimizer=sgd"),
        ("nesterov=true", ["optimizer=sgd"], "False without a momentum"),
        ("connectivity=0.1", [], "0.01 without a method of sparse conn"),
        ("l1=0.1", ["method=static"], "0.0001 without a method that shrinks"),
        (
            "temperature=1",
            ["method=l1"],
            "0.0 without method=deep_r or soft_deep_r",
        ),
        ("budget=global", ["method=static"], "layer without method=deep_r"),
        ("group_lambda=1", [], "0.01 without a method of groups"),
        (
            "group_lambda=1",
            ["method=deep_r"],
            "0.01 without a method of groups",
        ),
        ("k=0.3", ["method=hspg"], "0.1 without method=wgsef"),
        ("k=0.3", ["method=dense"], "0.1 without method=wgsef"),
        (
            "epsilon=0.5",
            ["method=group_lasso"],
            "0.0 without method=wgsef or hspg",
        ),
        ("switch_at=1", [], "0.5 without method=wgsef or hspg"),
        (
            "switch_at=0.2",
            ["method=group_lasso"],
            "0.5 without method=wgsef or hspg",
        ),
        (
            "lr_boundaries=5",
            ["lr_schedule=cosine"],
            "unset without lr_schedule=steps",
        ),
        (
            "gate_learning_rate=0.1",
            ["method=wgsef"],
            "0.0 without a method with gates",
        ),
        ("nouse_bias", [], "True without model=mlp"),
        ("patience=1", ["ema_momentum=0"], "0 without validation_examples"),
        ("patience=1", ["validation_examples=9"], "0 without ema_momentum=0"),
        (
            "target_macs=0.1",
            ["method=dense"],
            "0.0 without a method with gates or of groups",
        ),
        (
            "target_macs=0.1",
            ["method=deep_r"],
            "0.0 without a method with gates or of groups",
        ),
        (
            "target_params=0.1",
            ["method=soft_deep_r"],
            "0.0 without a method with gates or of groups, deep_r or static",
        ),
        (
            "target_units=9",
            ["method=l1"],
            "0.0 without a method with gates or of groups",
        ),
        (
            "target_macs=0.1",
            ["method=hspg"],
            "0.0 without finetune_epochs, before which groups are chosen",
        ),
        ("l0_lambda=1", ["target_macs=0.1"], r"0.1 with a target\."),
        ("droprate_init=0.3", ["target_macs=0.1"], r"unset with a target\."),
        ("gate_learning_rate=1", ["target_units=5"], r"0.0 with a target\."),
        (
            "k=0.3",
            [
                "method=wgsef",
                "target_macs=0.1",
                "finetune_epochs=1",
                "ema_momentum=0",
            ],
            r"0.1 with a target\.",
        ),
        (
            "connectivity=0.3",
            ["method=deep_r", "target_params=0.1"],
            r"0.01 with a target\.",
        ),
        (
            "penalty=reference",
            ["method=dep_l0", "target_params=0.1"],
            r"joint with a target\.",
        ),
        (
            "patience=1",
            ["validation_examples=9", "ema_momentum=0", "target_macs=0.1"],
            r"0 with a target\.",
        ),
    ],
)
def test_refuses_settings_that_are_about_nothing(flag, others, message):
    name = flag.split("=")[0].removeprefix("no")
    texts = [f"--{text}" for text in (flag, *others)]
    with pytest.raises(
        ValueError, match=f"`{name}` must be {message}.*Received: {name}="
    ):
        config_lib.from_flags(parse(*texts))


def test_targets_are_shares_up_to_1_and_numbers_above():
    config = config_lib.from_flags(
        parse("--target_macs=1", "--target_params=6212", "--target_units=0.25")
    )
    assert config.targets == [
        Target("macs", 1.0),
        Target("params", at_most=6212),
        Target("units", 0.25),
    ]
    assert config.has_target and config.is_cut
    assert Config().targets == [] and not Config().is_cut


def test_what_is_cut_may_be_averaged_in_fine_tuning():
    config = Config(target_macs=0.1, finetune_epochs=3, ema_momentum=0.9)
    assert config.finetune_epochs == 3


def test_the_same_network_without_sparsity():
    config = Config(
        model="mlp",
        l0_lambda=(1.0,),
        weight_decay=(3.0,),
        epochs=7,
        seed=4,
        learning_rate=0.01,
    )
    assert config.without_sparsity() == Config(
        model="mlp", method="dense", epochs=7, seed=4, learning_rate=0.01
    )
    cut = Config(target_macs=0.1, epochs=2, finetune_epochs=3)
    assert cut.without_sparsity() == Config(method="dense", epochs=5)
    # A decay of weights that no gate had a part in stays.
    groups = Config(
        method="wgsef", k=(0.5,), weight_decay=(0.1,), ema_momentum=0.0
    )
    assert groups.without_sparsity() == Config(
        method="dense", weight_decay=(0.1,), ema_momentum=0.0
    )


def test_settings_of_sparse_connections():
    found = config_lib.from_flags(
        parse(
            "--model=mlp",
            "--nouse_bias",
            "--method=deep_r",
            "--connectivity=0.01,0.02,0.3",
            "--l1=0.001",
            "--temperature=0.1",
            "--budget=global",
            "--validation_examples=500",
            "--patience=3",
            "--ema_momentum=0",
        )
    )
    assert found == Config(
        model="mlp",
        use_bias=False,
        method="deep_r",
        connectivity=(0.01, 0.02, 0.3),
        l1=0.001,
        temperature=0.1,
        budget="global",
        validation_examples=500,
        patience=3,
        ema_momentum=0.0,
    )


def test_settings_of_groups():
    found = config_lib.from_flags(
        parse(
            "--model=mlp",
            "--method=wgsef",
            "--group_lambda=0.1,0.2",
            "--k=0.5,1",
            "--epsilon=0,0.9",
            "--switch_at=0.25",
            "--finetune_epochs=2",
            "--lr_schedule=cosine",
            "--ema_momentum=0",
        )
    )
    assert found == Config(
        model="mlp",
        method="wgsef",
        group_lambda=(0.1, 0.2),
        k=(0.5, 1.0),
        epsilon=(0.0, 0.9),
        switch_at=0.25,
        finetune_epochs=2,
        lr_schedule="cosine",
        ema_momentum=0.0,
    )
    assert found.has_groups
    assert not found.is_gated and not found.has_connections
    shares = Config(method="hspg", epsilon=(0.5,), switch_at=0.0)
    assert shares.has_groups
    assert Config(method="group_lasso", group_lambda=(0.0,)).has_groups


def test_networks_without_layers_of_their_own_have_one_price():
    message = "`l0_lambda` must be one number of 'vgg16'. Received"
    with pytest.raises(ValueError, match=message):
        Config(model="vgg16", l0_lambda=(1.0, 2.0))


@pytest.mark.parametrize(
    "path",
    sorted(glob.glob(str(EXPERIMENTS / "*.flags"))),
    ids=lambda p: pathlib.Path(p).stem,
)
def test_flagfiles_are_valid_and_explained(path):
    config = config_lib.from_flags(parse(f"--flagfile={path}"))
    name = pathlib.Path(path).stem
    assert name.startswith(f"{config.dataset}_{config.model}_{config.method}")
    head = pathlib.Path(path).read_text().split("--model")[0]
    for word in ("arXiv:", "python -m trainers.train", name):
        assert word in head
    assert "table" in head or "section" in head
    assert "Here, " in head or "Not run yet" in head


def test_there_are_the_papers_flagfiles():
    names = {path.stem for path in EXPERIMENTS.glob("*.flags")}
    assert names == {
        "mnist_lenet5_l0",
        "mnist_lenet5_l0_sep",
        "mnist_mlp_l0",
        "mnist_mlp_l0_sep",
        # The same, asked for by their sizes.
        "mnist_lenet5_l0_target",
        "mnist_lenet5_l0_sep_target",
        "mnist_mlp_l0_target",
        "mnist_mlp_l0_sep_target",
        "cifar10_resnet20_l0_target",
        "cifar10_wrn_28_10_l0",
        "cifar100_wrn_28_10_l0",
        "cifar10_vgg16_dep_l0",
        "cifar100_vgg16_dep_l0",
        "cifar10_resnet56_dep_l0",
        "cifar100_resnet56_dep_l0",
        "imagenet2012_resnet50_dep_l0",
        "mnist_mlp_deep_r",
        "mnist_lstm_deep_r",
        "cifar10_cifar_cnn_deep_r",
        "timit_lstm_deep_r",
        "mnist_lenet5_wgsef",
        "mnist_lenet5_pytorch_wgsef",
        "cifar10_vgg16_wgsef",
        "cifar10_resnet18_wgsef",
        "cifar10_mobilenet_v1_wgsef",
        "fashion_mnist_vgg16_wgsef",
        "fashion_mnist_vgg7_wgsef",
        "fashion_mnist_resnet18_wgsef",
        "fashion_mnist_mobilenet_v1_wgsef",
        "cifar100_vgg16_wgsef",
        "cifar100_densenet40_wgsef",
        "imagenet2012_resnet50_wgsef",
    }


def test_help_texts_begin_with_a_noun():
    verbs = ("The", "A", "How", "What", "Which", "Whether", "Who", "Of")
    for field in dataclasses.fields(Config):
        text = field.metadata["text"]
        assert text[0].isupper() and text.endswith(".")
        assert text.split()[0] not in verbs, text


@pytest.mark.parametrize(
    "path",
    sorted(ROOT.glob("saved_models/*/report.json")),
    ids=lambda p: p.parent.name,
)
def test_workdirs_of_older_versions_are_accepted(path, tmp_path):
    record = json.loads(path.read_text())["config"]
    config = Config.from_json(record)
    # Nothing that was said is lost, also where settings came later.
    assert record.items() <= config.to_json().items()
    (tmp_path / "config.json").write_text(json.dumps(record))
    defaults = Config().to_json()
    Workdir(tmp_path, config.to_json(), defaults).close()
    other = dataclasses.replace(config, seed=99).to_json()
    with pytest.raises(ValueError, match="differs in seed=. there, 99 now$"):
        Workdir(tmp_path, other, defaults)


def test_records_of_other_programs_are_refused():
    with pytest.raises(ValueError, match=r"Received: \['lambda'\]"):
        Config.from_json({"lambda": 1})
