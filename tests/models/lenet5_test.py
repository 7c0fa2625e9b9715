import keras
import numpy as np
import pytest
from keras import ops

import l0keras
from l0keras import models


def test_plain_has_the_papers_layers_and_parameters():
    model = models.lenet5()
    # papers' LeNet-5-Caffe: 520 + 25,050 + 400,500 + 5,010.
    assert model.count_params() == 431_080
    assert model.get_layer("flatten").output.shape == (None, 800)
    assert l0keras.gates_of(model) == []
    names = [layer.name for layer in model.layers if layer.weights]
    assert names == ["conv1", "conv2", "fc1", "fc2"]
    for name in names:
        layer = model.get_layer(name)
        assert type(layer) in (keras.layers.Conv2D, keras.layers.Dense)
        relu = name != "fc2"
        assert (layer.activation is keras.activations.relu) == relu


def test_layers_and_size_of_pytorchs_variant():
    model = models.lenet5(variant="pytorch")
    # 6 x 25 + 6, 16 x 150 + 16, 400 x 120 + 120, 120 x 84 + 84 and
    # 84 x 10 + 10, as published.
    assert model.count_params() == 61_706
    # 28 x 28 pixels x 150 weights, 10 x 10 pixels x 2400 weights and once
    # each weight of the dense layers.
    assert l0keras.count_macs(model) == 416_520
    shapes = [layer.output.shape[1:] for layer in model.layers]
    assert shapes == [
        (28, 28, 6),
        (14, 14, 6),
        (10, 10, 16),
        (5, 5, 16),
        (400,),
        (120,),
        (84,),
        (10,),
    ]
    activations = [
        layer.activation.__name__ for layer in model.layers if layer.weights
    ]
    assert activations == ["relu", "relu", "relu", "relu", "linear"]


def test_gates_of_pytorchs_variant():
    model = models.lenet5(
        variant="pytorch", gates="paper", l0=(1, 2, 3, 4, 5), seed=0
    )
    gates = l0keras.gates_of(model)
    assert [gate.log_alpha.shape[0] for gate in gates] == [6, 16, 400, 120, 84]
    assert [gate.group_size for gate in gates] == [26, 151, 120, 84, 10]
    assert [gate.l0 for gate in gates] == [1, 2, 3, 4, 5]


def test_gated_has_the_papers_gates():
    model = models.lenet5(gates="paper", seed=0)
    gates = l0keras.gates_of(model)
    assert [gate.log_alpha.shape[0] for gate in gates] == [20, 50, 800, 500]
    assert [gate.group_size for gate in gates] == [26, 501, 500, 10]
    for gate in gates:
        assert abs(float(ops.mean(gate.log_alpha))) < 0.01


def test_penalty_at_the_start_is_that_of_the_paper():
    # sum of gates * group size * P(open at log_alpha = 0) * lambda / N.
    weights = 20 * 26 + 50 * 501 + 800 * 500 + 500 * 10
    model = models.lenet5(gates="paper", l0=0.1 / 60_000, seed=0)
    penalty = sum(float(loss) for loss in model.losses)
    assert penalty == pytest.approx(0.8318 * weights * 0.1 / 60_000, rel=1e-3)


def test_each_layer_takes_its_own_settings():
    model = models.lenet5(
        gates="paper",
        l0=(1, 2, 3, 4),
        l2=(5, 6, 7, 8),
        droprate_init=(0.2, 0.3, 0.4, 0.6),
    )
    gates = l0keras.gates_of(model)
    assert [gate.l0 for gate in gates] == [1, 2, 3, 4]
    assert [gate.l2 for gate in gates] == [5, 6, 7, 8]
    assert [gate.droprate_init for gate in gates] == [0.2, 0.3, 0.4, 0.6]


def test_decay_of_the_plain_network():
    model = models.lenet5(l2=0.3, seed=0)
    squares = sum(float(ops.sum(ops.square(w))) for w in model.weights)
    penalty = sum(float(loss) for loss in model.losses)
    assert penalty == pytest.approx(0.5 * 0.3 * squares, rel=1e-5)


def test_he_initial_weights_and_zero_biases():
    model = models.lenet5(gates="paper", seed=3)
    for name, fan_in in (("conv2", 500), ("fc1", 800), ("fc2", 500)):
        layer = model.get_layer(name)
        kernel = ops.convert_to_numpy(layer.kernel)
        assert kernel.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert not ops.convert_to_numpy(layer.bias).any()


def test_seed_fixes_the_network_and_tells_layers_apart():
    first, same, other = (
        models.lenet5(gates="paper", seed=s) for s in (1, 1, 2)
    )
    image = np.random.default_rng(0).random((2, 28, 28, 1), "float32")
    outputs = [
        ops.convert_to_numpy(model(image, training=True))
        for model in (first, same, other)
    ]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])
    noise = [
        ops.convert_to_numpy(gate.values(training=True))[:20]
        for gate in l0keras.gates_of(first)
    ]
    for index, values in enumerate(noise[1:]):
        assert abs(np.corrcoef(noise[index], values)[0, 1]) < 0.8


def test_smallest_image():
    assert models.lenet5((16, 16, 3), classes=7).output_shape == (None, 7)
    model = models.lenet5((12, 12, 3), variant="pytorch")
    assert model.get_layer("pool2").output.shape == (None, 1, 1, 16)


@pytest.mark.parametrize("shape", [(15, 16, 1), (8, 8, 1), (28, 28)])
def test_refuses_small_images(shape):
    with pytest.raises(ValueError, match="`input_shape`.*Received: input_sh"):
        models.lenet5(shape)


def test_refuses_what_pytorchs_variant_cannot_be():
    with pytest.raises(ValueError, match="at least 12 x 12.*=.11, 12, 1"):
        models.lenet5((11, 12, 1), variant="pytorch")
    with pytest.raises(ValueError, match="one of caffe, pytorch. .*=torch"):
        models.lenet5(variant="torch")


@pytest.mark.parametrize(
    "name, value",
    [("l0", (1, 2)), ("l0", -1), ("l2", -1), ("droprate_init", 1.0)],
)
def test_refuses_wrong_settings(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must .*{name}="):
        models.lenet5(**{"gates": "paper", name: value})


def test_plain_refuses_negative_decay():
    with pytest.raises(ValueError, match="`l2` must be at least 0"):
        models.lenet5(l2=-1.0)
