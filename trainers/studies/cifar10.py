r"""Asks for 58 and 46 percent of the MACs of a ResNet-20 on CIFAR-10.

    python -m trainers.studies.cifar10 --workdir=runs/cifar10 --seeds=1 \
        --num_threads=2 --data_dir=DATA --save_to=saved_models/cifar10

trains the network dense and asked for the two sizes at which papers that prune
filters give their errors, with the same settings and as many epochs, and shows
sizes and errors as a table and a picture. Papers train for 200 epochs, so it is
the difference from the dense network that compares with theirs. Nothing is
selected, so the test set is not used before the end of each run. The same
command goes on where it was stopped.
"""

from trainers.run import program
from trainers.studies import mnist
from trainers.studies import study

_FLAGFILE = "cifar10_resnet20_l0_target"
ROWS = (
    mnist.Row("dense", "ResNet-20, dense", _FLAGFILE, dense=True),
    *(
        mnist.Row(
            f"macs_{share}",
            f"ResNet-20, {share:.0%} of the MACs",
            _FLAGFILE,
            {"target_macs": share},
        )
        for share in (0.58, 0.46)
    ),
)


def make(changes):
    """The study; the arguments are those of `mnist.Asked`."""
    found = mnist.Asked("cifar10", ROWS, changes)
    # Two sizes have one flagfile, and a card is of one.
    found.keeps = False
    return found


define_flags = mnist.define_flags


def _study():
    return make(mnist.changes())


main = study.main(_study)


if __name__ == "__main__":
    program.run(main, define_flags)
