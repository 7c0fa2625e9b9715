import keras
import numpy as np
import pytest
from keras import layers

from tests import covering
from tests.graph.rules import checks

RANKS = {1: (6, 3), 2: (5, 6, 3), 3: (3, 4, 3, 3)}
WAYS = [
    {},
    {"strides": 2},
    {"strides": 2, "padding": "same"},
    {"padding": "same"},
    {"kernel_size": 1},
    {"kernel_size": 1, "strides": 2, "padding": "same"},
    {"kernel_size": 2, "strides": 2, "activation": "sigmoid"},
    {"kernel_size": 4, "strides": 3, "output_padding": 1},
    {"dilation_rate": 2},
    {"use_bias": False, "activation": "relu"},
]


def chain(rank, data_format="channels_last", **arguments):
    shape = RANKS[rank]
    if data_format == "channels_first":
        shape = (shape[-1], *shape[:-1])
    conv = getattr(layers, f"Conv{rank}D")
    transposed = getattr(layers, f"Conv{rank}DTranspose")
    arguments = {
        "kernel_size": 3,
        "data_format": data_format,
        **arguments,
    }
    return keras.Sequential(
        [
            keras.Input(shape),
            conv(6, 1, data_format=data_format, name="before"),
            transposed(5, name="up", **arguments),
            conv(4, 1, data_format=data_format, name="all_after"),
        ]
    )


def _skip_if_not_implemented(model):
    """What TensorFlow can do depends on the kind of CPU (oneDNN or not)."""
    try:
        model(np.zeros((1, *model.input_shape[1:]), "float32"))
    except Exception as error:
        if "implementation does not yet support" not in str(error):
            raise
        pytest.skip("TensorFlow has no such convolution on this CPU")


@pytest.mark.parametrize(
    "way, rank", covering.singles(WAYS, [1, 2, 3]), ids=str
)
def test_is_exact_and_cut(rank, way, tmp_path):
    rng = np.random.default_rng(rank)
    model = chain(rank, **way)
    _skip_if_not_implemented(model)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4])
    up = model.get_layer("up")
    kernel = checks.to_numpy(up.kernel).copy()
    kernel[..., [0, 2], :] = 0.0
    kernel[..., :, 3] = 0.0
    up.kernel.assign(kernel)
    stripped = checks.check(model, rng, tmp_path)
    # Units without a kernel are a constant, which goes into the next bias.
    shape = stripped.get_layer("up").kernel.shape
    assert shape == (*kernel.shape[:-2], 3, 3)
    assert stripped.get_layer("before").filters == 3


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no channels_first convolutions on CPUs",
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_channels_first(rank):
    rng = np.random.default_rng(rank)
    model = chain(rank, "channels_first", strides=2, padding="same")
    checks.randomize(model, rng)
    checks.close(model.get_layer("before"), [1, 4])
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters <= 4


@pytest.mark.parametrize(
    "way, foldable",
    [
        ({"kernel_size": 1}, True),
        ({"kernel_size": 1, "strides": 2, "padding": "same"}, False),
        ({"kernel_size": 2, "strides": 2}, False),
        ({"kernel_size": 3}, False),
        ({"kernel_size": 3, "padding": "same"}, False),
    ],
)
def test_a_constant_is_folded_only_where_each_output_sees_one_input(
    way, foldable
):
    rng = np.random.default_rng(0)
    model = chain(2, **way)
    checks.randomize(model, rng, closed=0.0)
    checks.close(model.get_layer("before"), [1, 4], bias=2.0)
    stripped = checks.check(model, rng)
    assert stripped.get_layer("before").filters == (4 if foldable else 5)


def test_gates_move_into_the_kernel():
    from l0keras import HardConcreteGate

    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2DTranspose(4, 3, activation="relu", name="first")(inputs)
    x = HardConcreteGate(name="back")(x)
    x = layers.Conv2D(5, 1, activation="sigmoid", name="conv")(x)
    x = HardConcreteGate(name="forth")(x)
    x = layers.Conv2DTranspose(2, 3, strides=2, name="second")(x)
    model = keras.Model(inputs, x)
    checks.randomize(model, rng, closed=0.0)
    model.get_layer("back").log_alpha.assign([-5.0, 0.0, 0.5, 4.0])
    model.get_layer("forth").log_alpha.assign([0.0, 0.5, -5.0, -5.0, 4.0])
    stripped = checks.check(model, rng)
    names = {layer.name for layer in stripped.layers}
    assert not names & {"back", "forth"}
    assert stripped.get_layer("first").filters == 3
    assert stripped.get_layer("second").kernel.shape == (3, 3, 2, 3)
