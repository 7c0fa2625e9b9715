import numpy as np

from l0keras.proof.outputs import difference
from l0keras.proof.outputs import node_outputs
from l0keras.proof.outputs import precision


def first_difference(model, result, inputs):
    """Names the first layer of a model that differs from that of another.

    Layers are compared with those of the same name. Channels that are gone
    do not count, and neither do factors of channels: layers behind may make
    up for them. So of the layers that differ it is the first behind which
    none agrees.

    Args:
        model, result: built `keras.Model`s.
        inputs: arrays for both, of several examples.

    Returns:
        A sentence.
    """
    try:
        nodes, expected = node_outputs(model, inputs)
        named = _by_name(nodes)
        nodes, got = node_outputs(result, inputs)
    except Exception as error:
        return f"The layers cannot be called one by one: {error}."
    pairs = {}
    for key, node in _by_name(nodes).items():
        if key in named:
            pairs[id(node)] = (expected[id(named[key])], got[id(node)])
    tolerance = min(10 * precision(model, result)[0], 0.1)
    cut = any(
        a.shape != b.shape
        for olds, news in pairs.values()
        for a, b in zip(olds, news)
    )
    # Without cuts there is no reason for factors.
    for off in (_off, difference) if cut else (difference,):
        shares = {key: _largest(off, *pair) for key, pair in pairs.items()}
        for node in _wrong(nodes, shares, tolerance):
            return (
                f"The first layer that differs is '{node.name}' "
                f"({type(node.layer).__name__}), by "
                f"{shares[id(node)]:.2g} of the scale of its outputs."
            )
    return "No single layer differs by much more than rounding."


def _largest(off, expected, got):
    """The largest share of the outputs of one layer, NaN if it says nothing."""
    shares = [
        off(a, b)
        for a, b in zip(expected, got)
        if a.dtype.kind != "f" or np.any(np.isfinite(a))
    ]
    return max(shares, default=np.nan)


def _wrong(nodes, shares, tolerance):
    """The nodes that differ and behind which none agrees."""
    healed = set()
    for node in reversed(nodes):
        readers = [r for value in node.outputs for r, _ in value.readers]
        agrees = shares.get(id(node), np.nan) <= tolerance
        if agrees or any(id(reader) in healed for reader in readers):
            healed.add(id(node))
    return [
        node
        for node in nodes
        if shares.get(id(node), np.nan) > tolerance and id(node) not in healed
    ]


def _by_name(nodes):
    """Nodes by their names and how often a layer was called before."""
    found = {}
    for node in nodes:
        found[node.name, node.operation.nodes.index(node)] = node
    return found


def _off(expected, got):
    """By how much outputs differ, for channels up to their factors."""
    share = difference(expected, got)
    if got.dtype.kind != "f" or expected.ndim != got.ndim or got.ndim < 2:
        return share
    unlike = [
        axis
        for axis in range(1, got.ndim)
        if got.shape[axis] != expected.shape[axis]
    ]
    if len(unlike) > 1 or expected.shape[0] != got.shape[0]:
        # Not the same positions, so nothing is known.
        return 0.0 if np.isinf(share) else share
    for axis in unlike or sorted({1, got.ndim - 1}):
        share = min(share, _off_channels(expected, got, axis))
    return share


def _off_channels(expected, got, axis):
    """As `_off`, with each channel beside the most similar one."""
    expected, got = (
        np.moveaxis(np.nan_to_num(array), axis, -1).reshape(
            -1, array.shape[axis]
        )
        for array in (expected, got)
    )
    scale = np.max(np.abs(got), initial=0.0)
    norms = np.linalg.norm(expected, axis=0)
    unit = expected / np.where(norms > 0, norms, 1.0)
    products = unit.T @ got
    if expected.shape == got.shape:
        best = np.arange(got.shape[1])
    else:
        best = np.argmax(np.abs(products), axis=0)
    factors = products[best, np.arange(got.shape[1])]
    rest = np.abs(got - unit[:, best] * factors)
    return float(np.max(rest, initial=0.0) / scale) if scale else 0.0
