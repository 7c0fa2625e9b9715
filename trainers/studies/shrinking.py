r"""Times whole trainings that shrink the network against those that do not.

    python -m trainers.studies.shrinking --workdir=runs/shrinking \
        --num_threads=1 --manual_dir=MNIST --save_to=saved_models/shrinking

trains LeNet-5 on MNIST, asked for a tenth of its multiply-accumulates: cut
while its gates train, with all units to the end, and without gates. Each way
has several seeds, and times, sizes and test errors stand in one table. Nothing
is selected, so the test set is not used before the end of each run. Runs follow
one another, so their times may be compared on a machine that does nothing else.
The same command goes on where it was stopped.

    python -m trainers.studies.shrinking --networks=resnet20 --epochs=40 ...

does the same with a ResNet-20 on CIFAR-10, asked for a quarter.
"""

import dataclasses
import statistics

from absl import flags

from trainers.run import program
from trainers.run.training import train
from trainers.studies import plots
from trainers.studies import study

FLAGS = flags.FLAGS
WAYS = {
    "shrunk": "cut while it trains",
    "whole": "all units to the end",
    "dense": "without gates",
}
# Titles, flagfiles, and what differs from them.
NETWORKS = {
    "lenet5": (
        "LeNet-5, MNIST, 10 % of the MACs",
        "mnist_lenet5_l0_target",
        {"target_params": 0.0, "target_macs": 0.1},
    ),
    "resnet20": (
        "ResNet-20, CIFAR-10, 25 % of the MACs",
        "cifar10_resnet20_l0_target",
        {"target_macs": 0.25},
    ),
}


@dataclasses.dataclass(frozen=True)
class Row(study.Row):
    """A way to train a network, see `study.Row`.

    Args:
        network: a key of `NETWORKS`.
        way: a key of `WAYS`.
    """

    network: str = ""
    way: str = ""

    def config(self, seed):
        config = super().config(seed)
        if self.way == "dense":
            return config.without_sparsity()
        return dataclasses.replace(config, shrink=self.way == "shrunk")


def rows(networks, changes):
    """All ways for each network, a tuple of `Row`.

    Args:
        networks: keys of `NETWORKS`.
        changes: a dict of settings that differ from all flagfiles.
    """
    return tuple(
        Row(
            f"{name}_{way}",
            f"{NETWORKS[name][0]}, {title}",
            NETWORKS[name][1],
            {**NETWORKS[name][2], "finetune_epochs": 0, **changes},
            name,
            way,
        )
        for name in networks
        for way, title in WAYS.items()
    )


class Shrinking(study.Study):
    """Trainings of the same networks in three ways."""

    def __init__(self, networks, changes):
        super().__init__("shrinking", rows(networks, changes))

    def result(self, row, seed, folder, where):
        """See `Study.result`.

        Returns:
            Also `network`, `way`, `units` (the architecture that is left),
            `params`, `macs` (as a share of the dense network's), `epochs` and
            `seconds` of the training.
        """
        report = train(row.config(seed), folder, **where)
        found = study.of_report(row, seed, report)
        found["macs"] /= report["macs"]["dense"]
        return {**found, "network": row.network, "way": row.way}

    def tables(self, results):
        lines = [
            [
                "network",
                "epochs",
                "seconds",
                "of whole",
                "of dense",
                "MACs",
                "units left",
                "test error, median",
                "each seed",
            ]
        ]
        for row in self.rows:
            own = self.of_row(results, row)
            if not own:
                continue
            middle = self.median_run(results, row)
            lines.append(
                [
                    row.title,
                    f"{middle['epochs']}",
                    f"{statistics.median(r['seconds'] for r in own):,.0f}",
                    *(
                        self._ratio(results, row, own, way)
                        for way in ("whole", "dense")
                    ),
                    f"{middle['macs']:.1%}",
                    middle["units"],
                    f"{middle['test_error']:.2f} %",
                    ", ".join(f"{r['test_error']:.2f}" for r in own),
                ]
            )
        return [lines]

    def _ratio(self, results, row, own, way):
        """The times as shares of another way's, of each seed."""
        other = {
            result["seed"]: result["seconds"]
            for result in results
            if (result["network"], result["way"]) == (row.network, way)
        }
        shares = [
            result["seconds"] / other[result["seed"]]
            for result in own
            if result["seed"] in other
        ]
        if row.way == way or not shares:
            return "-"
        return ", ".join(f"{share:.2f}" for share in sorted(shares))

    def draw(self, results):
        titles = {row.name: row.title for row in self.rows}
        return plots.sizes(
            results, titles, quantity=("seconds", "seconds of training")
        )


def define_flags(flag_values=FLAGS):
    """Defines the flags of this program."""
    study.define_flags(flag_values)
    study.define_networks(NETWORKS, flag_values, ["lenet5"])
    flags.DEFINE_integer(
        "epochs",
        200,
        "Number of epochs of each training.",
        lower_bound=1,
        flag_values=flag_values,
    )


def _study():
    return Shrinking(FLAGS.networks, {"epochs": FLAGS.epochs})


main = study.main(_study)


if __name__ == "__main__":
    program.run(main, define_flags)
