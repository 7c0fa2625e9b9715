"""Strip against the gated model itself, on random graphs."""

import keras
import numpy as np
import pytest

import l0keras
from l0keras.graph.rules import BARRIER
from l0keras.stripping.plan import plan
from tests.stripping import oracle
from tests.stripping.random_graph import Own
from tests.stripping.random_graph import outputs
from tests.stripping.random_graph import random_graph
from tests.stripping.random_graph import random_inputs
from tests.stripping.random_layers import pick

# A softmax of one unit, which Keras takes for a slip, may come up.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax")

# JAX compiles each operation anew for each shape.
TENSORFLOW = keras.backend.backend() == "tensorflow"
EXAMPLES = 30 if TENSORFLOW else 15
# Of what the graphs are made of, only these may be barriers.
MIXING = {"Softmax", "LayerNormalization", "Flip", "ZerosLike"}
REASONS = (
    "takes a part of the batch",
    "mix",
    "along",
    "reshapes the channels",
    "clips by",
)


def barriers(graph):
    """The layers that were not understood although they have a rule."""
    return [
        (node.name, node.reasons)
        for node in graph.nodes
        if node.rule is BARRIER
        and type(node.layer).__name__ not in MIXING
        and not any(reason in node.reasons[0] for reason in REASONS)
    ]


def assert_close(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale)


def state(model):
    """What stripping must not change in a model."""
    calls = [
        (len(layer._inbound_nodes), len(layer._outbound_nodes))
        for layer in model._flatten_layers()
    ]
    return model.get_weights(), calls


def check_state(model, before):
    weights, calls = state(model)
    assert calls == before[1]
    for now, then in zip(weights, before[0], strict=True):
        np.testing.assert_array_equal(now, then)


def check_structure(model, stripped):
    for one, other in (
        (model.input, stripped.input),
        (model.output, stripped.output),
    ):
        keras.tree.assert_same_structure(one, other)
    for one, other in zip(model.inputs, stripped.inputs, strict=True):
        assert (one.name, one.shape, one.dtype) == (
            other.name,
            other.shape,
            other.dtype,
        )
    names = list(model.output_names)
    if not isinstance(model.output, dict) and len(set(names)) == len(names):
        assert stripped.output_names == names
    ours = [
        layer.name
        for layer in stripped._flatten_layers()
        if type(layer).__module__.startswith("l0keras")
    ]
    assert not ours


def check_sizes(graph, stripped, round_to):
    """Widths are multiples of `round_to`, or all that the layer had."""
    sources = {node.name: node.operation.source for node in graph.nodes}
    params = sum(count_params(source) for source in sources.values())
    assert stripped.count_params() <= params
    for layer in stripped.layers:
        width = getattr(layer, "units", getattr(layer, "filters", None))
        if width and getattr(layer, "groups", 1) == 1:
            full = sources[layer.name].kernel.shape[-1]
            assert width % round_to == 0 or width == full


def count_params(layer):
    """The most that a layer may have after it was stripped."""
    if isinstance(layer, keras.layers.BatchNormalization):
        # Gates may need a scale and an offset.
        return 4 * layer.moving_mean.shape[0]
    total = sum(np.prod(w.shape) for w in getattr(layer, "weights", []))
    if not getattr(layer, "use_bias", True):
        # Constants may need a bias.
        total += layer.kernel.shape[-1]
    return total


def check(model, rng, round_to=None):
    graph = plan(model, round_to=round_to)
    assert not barriers(graph)
    before = state(model)
    x = random_inputs(model, rng)
    expected = outputs(model, x)
    stripped = l0keras.strip(model, round_to=round_to)
    assert_close(outputs(stripped, x), expected)
    check_structure(model, stripped)
    check_sizes(graph, stripped, round_to or 1)
    again = l0keras.strip(stripped, round_to=round_to)
    assert_close(outputs(again, x), expected)
    assert again.count_params() == stripped.count_params()
    assert len(again.operations) <= len(stripped.operations)
    if not any(isinstance(layer, Own) for layer in model.layers):
        # What is left of an own function of a constant may go only then.
        assert len(again.operations) == len(stripped.operations)
    check_structure(stripped, again)
    check_state(model, before)
    for got, there in zip(outputs(model, x), expected, strict=True):
        np.testing.assert_array_equal(got, there)


def for_graphs(seeds, run, **kwargs):
    """Calls `run` with many random graphs; a failure names its seed."""
    for seed in seeds:
        # Else names are counted up over all graphs.
        keras.utils.clear_session(free_memory=False)
        try:
            run(*random_graph(seed, **kwargs))
        except Exception as error:
            error.add_note(f"In the graph of seed {seed}.")
            raise


def check_rounded(model, rng):
    check(model, rng, pick(rng, None, None, 4, 8))


def test_stripped_graphs_compute_the_same():
    for_graphs(range(EXAMPLES), check_rounded)


@pytest.mark.skipif(
    TENSORFLOW, reason="TensorFlow has no channels_first convolutions on CPUs"
)
def test_stripped_graphs_compute_the_same_with_channels_first():
    for_graphs(range(EXAMPLES), check, data_format="channels_first")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_many_stripped_graphs_compute_the_same(part):
    first = 1000 + 500 * part
    for_graphs(range(first, first + 500), check_rounded)


@pytest.mark.parametrize(
    "seeds",
    [range(25), pytest.param(range(25, 500), marks=pytest.mark.slow)],
    ids=["few", "many"],
)
def test_no_unit_is_left_that_nobody_needs(seeds):
    """By trial: what is left of graphs without barriers has to matter."""
    counted = []

    def run(model, rng):
        found, tried = oracle.idle_units(l0keras.strip(model), rng)
        assert not found
        counted.append(tried)

    for_graphs(seeds, run, generic=True)
    assert sum(counted) > 2.5 * len(seeds)


def test_units_that_rounding_adds_are_idle():
    """The trial above would not miss a unit that could have gone."""
    missed = []

    def run(model, rng):
        small, wide = (l0keras.strip(model, round_to=n) for n in (None, 4))
        if wide.count_params() > small.count_params():
            before, after = (
                len(oracle.idle_units(one, rng, constants=True)[0])
                for one in (small, wide)
            )
            missed.append(after <= before)

    for_graphs(range(15), run, generic=True)
    assert len(missed) > 5 and sum(missed) < len(missed) / 5
