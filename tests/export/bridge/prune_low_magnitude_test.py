import keras
import numpy as np
import pytest
from keras import layers

from l0keras.export import prune_low_magnitude
from tests.export.bridge.tfmot_checks import assert_untouched
from tests.export.bridge.tfmot_checks import data
from tests.export.bridge.tfmot_checks import kernels
from tests.export.bridge.tfmot_checks import loss
from tests.export.bridge.tfmot_checks import network
from tests.export.bridge.tfmot_checks import tensorflow_only

pytestmark = tensorflow_only


@pytest.mark.parametrize("schedule", ["polynomial", "constant"])
def test_kernels_get_the_zeros_that_were_asked_for(schedule):
    model = network()
    pruned = prune_low_magnitude(
        model,
        data(),
        sparsity=0.75,
        schedule=schedule,
        epochs=2,
        loss=loss(),
        verbose=0,
    )
    for name, kernel in kernels(pruned).items():
        zeros = np.mean(kernel == 0)
        assert abs(zeros - 0.75) <= 1 / kernel.size, name
    assert isinstance(pruned, keras.Model)
    assert pruned.get_config() == model.get_config()


def test_layers_may_have_shares_of_their_own():
    model = network()
    first, second, *others = kernels(model)
    shares = {first: 0.75, second: 0.25}
    pruned = prune_low_magnitude(
        model, data(), sparsity=shares, loss=loss(), verbose=0
    )
    found = kernels(pruned)
    for name, share in shares.items():
        zeros = np.mean(found[name] == 0)
        assert abs(zeros - share) <= 1 / found[name].size
    assert others
    for name in others:
        assert np.all(found[name] != 0)


@pytest.mark.parametrize("sparsity", [{}, {"none": 0.5}])
def test_shares_are_those_of_layers_that_can_be_pruned(sparsity):
    name = next(iter(kernels(network())))
    with pytest.raises(
        ValueError, match=f"`sparsity` must name layers.*{name}"
    ):
        prune_low_magnitude(network(), data(), sparsity=sparsity, loss=loss())


def test_training_goes_on_from_the_weights():
    model = network()
    pruned = prune_low_magnitude(
        model,
        data(),
        sparsity=0.1,
        optimizer=keras.optimizers.SGD(0.0),
        loss=loss(),
        verbose=0,
    )
    for kernel, before in zip(
        kernels(pruned).values(), kernels(model).values()
    ):
        kept = kernel != 0
        np.testing.assert_array_equal(kernel[kept], before[kept])
        # What went is the smallest.
        assert np.abs(before[~kept]).max() <= np.abs(before[kept]).min()


def test_the_model_is_left_alone_and_its_compilation_used():
    pruned = assert_untouched(
        lambda model: prune_low_magnitude(
            model, data(), sparsity=0.5, verbose=0
        )
    )
    # SGD at 0.1 moves weights further than the default optimizer could.
    moved = kernels(pruned)["logits"] - kernels(network())["logits"]
    assert np.abs(moved[kernels(pruned)["logits"] != 0]).max() > 1e-2


def test_data_sets_and_structures():
    import tensorflow as tf

    inputs = {n: keras.Input((6,), name=n) for n in "ab"}
    x = layers.Dense(5)(layers.Concatenate()([inputs["a"], inputs["b"]]))
    outputs = {"p": layers.Dense(3)(x), "q": layers.Dense(2)(x)}
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(0)
    x = {n: rng.normal(size=(64, 6)) for n in "ab"}
    y = {n: rng.normal(size=(64, k)) for n, k in (("p", 3), ("q", 2))}
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    pruned = prune_low_magnitude(
        model,
        dataset.filter(lambda x, y: True),
        sparsity=0.5,
        loss={"p": "mse", "q": "mae"},
        validation_data=dataset,
        verbose=0,
    )
    for layer in pruned.layers:
        if isinstance(layer, layers.Dense):
            kernel = layer.kernel.numpy()
            assert abs(np.mean(kernel == 0) - 0.5) <= 1 / kernel.size
    assert set(pruned(x)) == {"p", "q"}


@pytest.mark.parametrize(
    "name, value",
    [
        ("sparsity", 1.0),
        ("sparsity", "much"),
        ("schedule", "cosine"),
        ("epochs", 0),
        ("epochs", 1.5),
        ("data", np.ones((4, 8, 8, 2))),
        ("data", (np.ones((4, 8, 8, 2)), np.ones(3))),
        ("loss", None),
        ("loss", keras.losses.MeanSquaredError(reduction="mean")),
        ("optimizer", keras.optimizers.Muon()),
        ("optimizer", 3),
    ],
)
def test_arguments_are_checked(name, value):
    arguments = {"data": data(), "sparsity": 0.5, "loss": "mse", name: value}
    with pytest.raises(ValueError, match=f"Argument `{name}` must be"):
        prune_low_magnitude(network(), **arguments)


def test_masks_are_refused():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.LSTM(2)(layers.Embedding(4, 3, mask_zero=True)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    data = (np.ones((4, 5), "int32"), np.ones((4, 2)))
    with pytest.raises(ValueError, match="must have no masks"):
        prune_low_magnitude(model, data, sparsity=0.5, loss="mse")


def test_a_model_with_nothing_to_prune_is_refused():
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization()])
    data = (np.ones((4, 3)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="must have a trainable layer"):
        prune_low_magnitude(model, data, sparsity=0.5, loss="mse")
