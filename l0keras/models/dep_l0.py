"""Gates where the paper of Dep-L0 has them, put into plain networks."""

import functools
import inspect
import re

from l0keras.models.checks import check_gates
from l0keras.models.conv_layers import seed_of
from l0keras.placement.place_gates import place_gates


def dep_l0(places, same_start=False):
    """A decorator that gives a plain network the gates of Dep-L0.

    The network gets the arguments `gates`, `l0`, `dependence`, `cost`,
    `penalty` and `sample_per`, all by keyword, and passes its own on.

    Args:
        places: a regular expression for the whole names of the layers behind
            which there are gates.
        same_start: whether the chain of gates starts with as many ones as the
            first layer has gates, also where it goes backwards.

    Source: Li and Ji, ECML-PKDD 2021 (arXiv:2107.00070), section 4.
    """

    def decorate(network):
        @functools.wraps(network)
        def gated(
            *sizes,
            gates=None,
            l0=0.0,
            dependence=None,
            cost="params",
            penalty="joint",
            sample_per="example",
            seed=None,
            **others,
        ):
            check_gates(gates, l0, dependence)
            model = network(*sizes, seed=seed, **others)
            if gates is None:
                return model
            behind = [
                layer
                for layer in model.layers
                if re.fullmatch(places, layer.name)
            ]
            kernels = sum(hasattr(layer, "kernel") for layer in model.layers)
            return place_gates(
                model,
                [layer.name for layer in behind],
                l0=l0,
                dependence=dependence,
                cost=cost,
                penalty=penalty,
                inputs=behind[0].output.shape[-1] if same_start else None,
                sample_per=sample_per,
                # Each layer with a kernel has one of the seeds before it.
                seed=seed_of(seed, kernels + 1),
            )

        own = inspect.signature(network)
        added = inspect.signature(gated, follow_wrapped=False).parameters
        together = dict(own.parameters)
        for name, parameter in added.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                together.setdefault(name, parameter)
        gated.__signature__ = own.replace(parameters=together.values())
        return gated

    return decorate
