"""What holds after every step of DEEP R, whatever the arrays are."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from l0keras.optimizers import DeepR
from tests.optimizers.sparse_training import BACKEND
from tests.optimizers.sparse_training import array
from tests.optimizers.sparse_training import gradients
from tests.optimizers.sparse_training import kernel

# New connections of small arrays are drawn by sorting, and of large ones by
# proposing, unless too many are active.
SMALL = st.tuples(st.integers(1, 9), st.integers(2, 9))
LARGE = st.sampled_from([(29, 23), (3, 3, 17, 4), (131, 2)])
SHARES = st.floats(0.0, 1.0) | st.sampled_from([0.1, 0.4, 1.0])
INNER = {
    "sgd": lambda: keras.optimizers.SGD(0.3),
    "momentum": lambda: keras.optimizers.SGD(0.3, momentum=0.9),
    "clipped": lambda: keras.optimizers.SGD(0.3, clipnorm=1.0),
    "adam": lambda: keras.optimizers.Adam(0.3),
    "decay": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.5),
}


@pytest.mark.skipif(
    BACKEND == "jax", reason="compiles every operation for every shape"
)
@given(
    layers=st.lists(
        st.tuples(st.one_of(SMALL, LARGE), SHARES), min_size=1, max_size=3
    ),
    zeros=st.sampled_from([0.0, 0.3, 1.0]),
    inner=st.sampled_from(sorted(INNER)),
    l1=st.sampled_from([0.0, 0.2]),
    temperature=st.sampled_from([0.0, 0.05]),
    budget=st.sampled_from(["layer", "global"]),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=20)
def test_number_and_signs_after_every_step(
    layers, zeros, inner, l1, temperature, budget, seed
):
    variables, rules, counts = [], [], {}
    rng = np.random.default_rng(seed)
    for index, (shape, share) in enumerate(layers):
        values = rng.normal(size=shape) * (rng.random(shape) >= zeros)
        variable = kernel(None, f"layer{index}", values=values)
        # At least one connection each.
        share = max(share, 1 / values.size)
        rules.append((f"^{variable.path}$", share))
        counts[variable.path] = round(share * values.size)
        variables.append(variable)
    variables.append(kernel((5,), "layer0", name="bias"))
    signs = [np.sign(array(variable)) for variable in variables]
    optimizer = DeepR(INNER[inner](), rules, l1, temperature, budget, seed=seed)
    optimizer.build(variables)
    for step in range(4):
        if step:
            optimizer.apply(gradients(variables, step), variables)
        found = optimizer.positions()
        assert list(found) == list(counts)
        if budget == "layer" or step == 0:
            assert {p: len(where) for p, where in found.items()} == counts
        masks = optimizer.masks()
        active = sum(mask.sum() for mask in masks.values())
        assert active == sum(counts.values())
        for index, variable in enumerate(variables[:-1]):
            weight, mask = array(variable), masks[variable.path]
            assert np.isfinite(weight).all() and not weight[~mask].any()
            np.testing.assert_array_equal(
                np.flatnonzero(mask), found[variable.path]
            )
            known = signs[index] != 0
            assert (weight * signs[index] >= 0).all()
            # Those of weights that start as 0 show when they are active.
            signs[index] = np.where(known, signs[index], np.sign(weight))
    # The bias, which is not sparse, has no sign to keep.
    assert array(variables[-1]).all()
