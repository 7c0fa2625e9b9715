r"""Asks for sizes and compares what comes of it with three other ways there.

    python -m trainers.studies.sizes --workdir=runs/sizes --num_threads=1 \
        --manual_dir=MNIST --save_to=saved_models/sizes --networks=mlp,lenet5

trains a network, and then for half to a 50th of its multiply-accumulates and
of its parameters, with the same settings for all sizes:

- `l0keras.compress`, asked for the size;
- the trained network cut to the size by the norms of its units, and trained
  for as many epochs as `compress` takes;
- the architecture that `compress` found, from new weights, for as many epochs
  as the network and `compress` took together.

Nothing is selected, so the test set is used once for each model, at the end.
The table has the errors of the dense network and the nearest hand-tuned run of
`saved_models`, too. The same command goes on where it was stopped, within a
training as well, several processes with other `--networks`, `--rows` or
`--seeds` share the work, and results that `--save_to` has are not made again.
"""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable

import keras
from absl import flags

import l0keras
from l0keras.targets import Target
from l0keras.targets import size_of
from trainers.data import input_pipeline
from trainers.run import program
from trainers.run.workdir import write_json
from trainers.studies import plots
from trainers.studies import study
from trainers.studies.corpus import images as corpus_images
from trainers.studies.size_trainings import Trainings

FLAGS = flags.FLAGS
SHARES = (0.5, 0.25, 0.1, 0.05, 0.02)
SAVED_MODELS = os.path.join(os.path.dirname(__file__), "../../saved_models")
WAYS = ("compress", "norm", "scratch")
# How far below and above a size a run with a price counts as one of the size.
_NEAR = (0.6, 1.02)


def mlp(data, seed):
    """784-300-100, the fully connected network of Louizos et al."""
    return _plain(l0keras.models.mlp, data.input_shape, seed)


def _plain(make, shape, seed):
    keras.utils.set_random_seed(seed)
    return make(shape, seed=seed)


def lenet5(data, seed):
    """LeNet-5-Caffe, 20-50-800-500."""
    return _plain(l0keras.models.lenet5, data.input_shape, seed)


def resnet20(data, seed):
    """ResNet-20 for small images, 8 channels wide at the start."""
    keras.utils.set_random_seed(seed)
    return l0keras.models.resnet(20, 8, data.input_shape, seed=seed)


def mobilenet_v2(data, seed):
    """The network with inverted residuals of the corpus, for probabilities."""
    del data
    keras.utils.set_random_seed(seed)
    return corpus_images.mobilenet_v2()


def adam():
    return keras.optimizers.Adam(1e-3)


def sgd():
    return keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)


@dataclasses.dataclass(frozen=True)
class Network:
    """What all cells of a network have in common.

    Args:
        title: its name in the table.
        make: a function from a `Data` and a seed to a Keras model.
        dataset, image_size, augmentation: see `input_pipeline.load`.
        optimizer: a function without arguments.
        from_logits: whether the outputs are logits.
        dense_epochs: how long the network is trained first.
        epochs: how long `compress` trains.
        batch_size: the number of examples in a step.
    """

    title: str
    make: Callable
    dataset: str = "mnist"
    image_size: int = 0
    augmentation: str = "none"
    optimizer: Callable = adam
    from_logits: bool = True
    dense_epochs: int = 10
    epochs: int = 20
    batch_size: int = 128


NETWORKS = {
    "mlp": Network("784-300-100, MNIST", mlp),
    "lenet5": Network("LeNet-5, MNIST", lenet5, dense_epochs=5, epochs=6),
    "resnet20": Network(
        "ResNet-20 of width 8, Fashion-MNIST of 14 x 14",
        resnet20,
        dataset="fashion_mnist",
        image_size=14,
        optimizer=sgd,
        dense_epochs=5,
        epochs=6,
    ),
    "mobilenet_v2": Network(
        "MobileNetV2 of own blocks, CIFAR-10",
        mobilenet_v2,
        dataset="cifar10",
        augmentation="crop_flip",
        from_logits=False,
        dense_epochs=5,
        epochs=6,
    ),
}


@dataclasses.dataclass(frozen=True)
class Cell(study.Row):
    """One size of one network.

    Args:
        network: a key of `NETWORKS`.
        target: a `Target` with a share.
    """

    network: str = ""
    target: Target | None = None

    @property
    def last_file(self):
        return "result.json"


def cells(networks=NETWORKS):
    """All cells of networks, a tuple of `Cell`."""
    return tuple(
        Cell(
            f"{name}-{of}-{share}",
            f"{networks[name].title}, {share:.0%} of {of}",
            "",
            network=name,
            target=Target(of, share),
        )
        for name in networks
        for of in ("macs", "params")
        for share in SHARES
    )


class Sizes(study.Study):
    """All cells of some networks.

    Args:
        networks: a dict from names to `Network`.
        trained: the names of those that are trained, all if `None`; the
            others are only shown where they have results.
    """

    goes_on = True

    def __init__(self, networks=NETWORKS, trained=None):
        super().__init__("sizes", cells(networks))
        self._networks = networks
        self._trained = networks if trained is None else trained
        self._data = {}

    def wanted(self, names, seeds):
        """See `Study.wanted`."""
        return [
            (row, seed)
            for row, seed in super().wanted(names, seeds)
            if row.network in self._trained
        ]

    def result(self, row, seed, folder, where):
        """See `Study.result`.

        Returns:
            Also `network`, `of`, `asked` (a share), `reached` (one as well),
            `dense_error`, the errors of all `WAYS` by their names, `units`
            (the architecture) and `seconds` (of `compress`, since it was last
            stopped).
        """
        path = os.path.join(folder, row.last_file)
        if not os.path.exists(path):
            os.makedirs(folder, exist_ok=True)
            write_json(path, self._made(row, seed, folder, where))
        with open(path) as file:
            return json.load(file)

    def _made(self, row, seed, folder, where):
        network = self._networks[row.network]
        run = Trainings(network, seed, self._load(row, where))
        dense = run.dense(f"{os.path.dirname(folder)}/{row.network}-{seed}")
        started = time.monotonic()
        small = run.kept(
            os.path.join(folder, "compress.keras"),
            lambda state: run.compress(dense, row.target, state),
        )
        seconds = time.monotonic() - started
        normed = run.kept(
            os.path.join(folder, "norm.keras"),
            lambda state: run.norm(dense, row.target, state),
        )
        fresh = run.kept(
            os.path.join(folder, "scratch.keras"),
            lambda state: run.scratch(small, state),
        )
        models = zip(WAYS, (small, normed, fresh), strict=True)
        errors = {way: run.error(model) for way, model in models}
        size = size_of(dense, row.target)
        return {
            "name": row.name,
            "seed": seed,
            "network": row.network,
            "of": row.target.of,
            "asked": row.target.share,
            "reached": size_of(small, row.target) / size,
            "norm_reached": size_of(normed, row.target) / size,
            "dense_error": run.error(dense),
            "test_error": errors["compress"],
            **errors,
            "units": l0keras.architecture(small),
            "seconds": round(seconds),
        }

    def _load(self, row, where):
        network = self._networks[row.network]
        key = network.dataset, network.image_size, network.augmentation
        if key not in self._data:
            data = input_pipeline.load(
                network.dataset,
                image_size=network.image_size,
                augmentation=network.augmentation,
                **where,
            )
            self._data[key] = data
        return self._data[key]

    def tables(self, results):
        tuned = _hand_tuned()
        found = []
        for network in self._networks:
            rows = [row for row in self.rows if row.network == network]
            rows = [row for row in rows if self.of_row(results, row)]
            if rows:
                lines = [self._line(results, row, tuned) for row in rows]
                title = self._networks[network].title
                found.append([_titles(title), *lines])
        return found

    def _line(self, results, row, tuned):
        own = self.of_row(results, row)
        middle = {
            way: statistics.median(result[way] for result in own)
            for way in ("dense_error", *WAYS)
        }
        by_hand = _nearest(tuned, row)
        others = [middle["norm"], middle["scratch"]]
        worse = middle["compress"] > min(others + by_hand[:1])
        return [
            f"{row.target.share:.0%} of {row.target.of}",
            " to ".join(
                f"{share:.2%}"
                for share in sorted(
                    {
                        min(result["reached"] for result in own),
                        max(result["reached"] for result in own),
                    }
                )
            ),
            f"{middle['dense_error']:.2f} %",
            f"{middle['compress']:.2f} %" + (" (worse)" if worse else ""),
            f"{middle['norm']:.2f} %",
            f"{middle['scratch']:.2f} %",
            by_hand[1] if by_hand else "-",
            self.median_run(results, row)["units"],
            ", ".join(f"{result['compress']:.2f}" for result in own),
        ]

    def draw(self, results):
        return plots.ways(results, self._networks)


def _titles(network):
    return [
        f"{network}: asked",
        "reached",
        "dense",
        "compress",
        "largest norm",
        "from scratch",
        "tuned by hand",
        "units",
        "compress, each seed",
    ]


def _hand_tuned():
    """The runs with prices in `saved_models`, as a list of dicts."""
    found = []
    for name in sorted(os.listdir(SAVED_MODELS)):
        path = os.path.join(SAVED_MODELS, name, "report.json")
        if not os.path.exists(path):
            continue
        with open(path) as file:
            report = json.load(file)
        config = report["config"]
        if config["dataset"] != "mnist" or report.get("targets"):
            continue
        found.append(
            {
                "name": name,
                "network": config["model"],
                "test_error": report["test_error"]["stripped"],
                "epochs": report["epochs"],
                **{
                    of: report[of]["stripped"] / report[of]["dense"]
                    for of in ("params", "macs")
                },
            }
        )
    return found


def _nearest(tuned, row):
    """The best of the hand-tuned runs of a size: its error and a text."""
    share, of = row.target.share, row.target.of
    low, high = (share * bound for bound in _NEAR)
    near = [
        run
        for run in tuned
        if run["network"] == row.network and low <= run[of] <= high
    ]
    if not near:
        return []
    best = min(near, key=lambda run: run["test_error"])
    text = (
        f"{best['test_error']:.2f} % ({best['name']}, {best[of]:.1%}, "
        f"{best['epochs']} epochs)"
    )
    return [best["test_error"], text]


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    study.define_flags(flag_values)
    study.define_networks(NETWORKS, flag_values)


def _study():
    return Sizes(trained=FLAGS.networks)


main = study.main(_study)


if __name__ == "__main__":
    program.run(main, define_flags)
