import keras
import numpy as np
import pytest
from keras import ops

from l0keras.connections.seeds import StepSeed
from l0keras.layers import SparseDense
from l0keras.optimizers import SoftDeepR
from tests.optimizers.sparse_training import BACKEND
from tests.optimizers.sparse_training import array
from tests.optimizers.sparse_training import assert_same
from tests.optimizers.sparse_training import data
from tests.optimizers.sparse_training import gradients
from tests.optimizers.sparse_training import kernel
from tests.optimizers.sparse_training import network
from tests.optimizers.sparse_training import train
from tests.optimizers.sparse_training import two_replicas

optimizers = keras.optimizers


def schedule():
    return optimizers.schedules.PiecewiseConstantDecay([2, 5], [0.3, 0.2, 0.1])


def state(optimizer):
    """Thetas and signs of the first variable."""
    _, theta, sign, _, _ = optimizer._sparse[0]
    return array(theta), array(sign).astype("float64")


@pytest.mark.parametrize("temperature", [None, 0.02])
@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.SGD(schedule()),
        lambda: optimizers.SGD(0.1, momentum=0.9),
        lambda: optimizers.AdamW(0.1, weight_decay=0.1),
    ],
)
def test_as_the_papers_equations(make, temperature):
    variable = kernel((17, 9))
    copy = kernel((17, 9))
    optimizer = SoftDeepR(make(), 0.3, 0.4, temperature, seed=5)
    optimizer.build([variable])
    inner = make()
    copy.assign(variable)
    theta, sign = state(optimizer)
    switched = 0
    for step in range(8):
        given = gradients([variable], step)
        rate = float(ops.convert_to_numpy(inner.learning_rate))
        before = array(copy).astype("float64")
        inner.apply(given, [copy])
        optimizer.apply(given, [variable])
        moved = sign * (array(copy) - before)
        heat = rate * 0.4**2 / 18 if temperature is None else temperature
        noise = array(
            keras.random.normal((17, 9), seed=StepSeed(5, step))
        ) * np.sqrt(2 * rate * heat)
        share = 46 / 153
        lowest = -heat * (1 - share) / (0.4 * share)
        active = theta > 0
        walked = theta + noise + active * (moved - rate * 0.4)
        new = np.where(walked > 0, walked, np.maximum(walked, lowest))
        switched += ((new > 0) & ~active).sum()
        found, signs = state(optimizer)
        np.testing.assert_allclose(found, new, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(signs, sign)
        np.testing.assert_allclose(
            array(variable), sign * np.maximum(found, 0), rtol=1e-6
        )
        theta = found
        copy.assign(variable)
    assert switched > 5
    assert optimizer.rewired() == {"layer/kernel": switched}


def test_start_has_exactly_the_share_and_the_magnitudes_of_the_weights():
    variable = kernel((40, 50))
    before = array(variable)
    optimizer = SoftDeepR(optimizers.SGD(0.5), 0.05, 0.1, 1e-3, seed=1)
    optimizer.build([variable])
    theta, sign = state(optimizer)
    active = theta > 0
    assert active.sum() == 100
    assert optimizer.active_shares() == {"layer/kernel": 0.05}
    np.testing.assert_array_equal(array(variable), np.where(active, before, 0))
    np.testing.assert_array_equal(sign, np.sign(before))
    lowest = -1e-3 * 0.95 / (0.1 * 0.05)
    dormant = theta[~active]
    assert dormant.min() >= lowest * (1 + 1e-6)
    assert dormant.mean() == pytest.approx(lowest / 2, rel=0.05)
    assert dormant.std() == pytest.approx(-lowest / np.sqrt(12), rel=0.05)
    np.testing.assert_array_equal(optimizer.masks()["layer/kernel"], active)


def test_keeps_its_own_variables_once():
    variable = kernel((20, 30))
    optimizer = SoftDeepR(optimizers.SGD(0.5), 0.1, seed=1)
    optimizer.build([variable])
    found = [id(v) for v in optimizer.variables]
    assert len(set(found)) == len(found)
    assert id(variable) not in found


def test_takes_over_connections_of_the_right_number():
    values = np.zeros((20, 30))
    values.reshape(-1)[::10] = 0.5
    variable = kernel(None, values=values)
    optimizer = SoftDeepR(optimizers.SGD(0.5), 0.1, seed=1)
    optimizer.build([variable])
    np.testing.assert_array_equal(array(variable), values.astype("float32"))


def test_without_gradients_the_share_stays_what_is_asked_for():
    variable = kernel((100, 100))
    # Where an exponential density of scale T / l1 begins.
    variable.assign(np.random.default_rng(0).exponential(0.1, (100, 100)))
    optimizer = SoftDeepR(optimizers.SGD(0.05), 0.3, 0.1, 0.01, seed=1)
    optimizer.build([variable])
    zeros = [ops.zeros((100, 100))]
    shares = []
    for _ in range(150):
        optimizer.apply(zeros, [variable])
        shares.append(optimizer.active_shares()["layer/kernel"])
    assert np.mean(shares[50:]) == pytest.approx(0.3, abs=0.03)
    assert optimizer.rewired()["layer/kernel"] > 5000


@pytest.mark.parametrize("accumulate", [None, 3])
def test_saved_and_loaded_training_goes_on_the_same(accumulate, tmp_path):
    x, y = data(steps=8)
    model = network()
    inner = optimizers.Adam(0.05, gradient_accumulation_steps=accumulate)
    optimizer = SoftDeepR(inner, 0.2, 0.1, 1e-3, use_ema=True)
    model.compile(optimizer, loss="mse", jit_compile=False)
    train(model, x[:32], y[:32])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == optimizer.get_config()
    before = optimizer.rewired()
    for one in (model, loaded):
        train(one, x[32:], y[32:])
    assert_same(loaded, model)
    assert list(optimizer.rewired().values()) != list(before.values())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="is TensorFlow's")
@pytest.mark.parametrize("temperature", [None, 0.02])
def test_replicas_rewire_the_same(temperature):
    strategy = two_replicas()
    x, y = data(steps=5)

    def compiled():
        model = network()
        optimizer = SoftDeepR(
            optimizers.SGD(0.1, momentum=0.5),
            0.2,
            0.3,
            temperature,
            seed=1,
            use_ema=True,
        )
        model.compile(optimizer, loss="mse", jit_compile=False)
        return model

    one = compiled()
    with strategy.scope():
        two = compiled()
    for model in (one, two):
        train(model, x, y, epochs=4)
    for variable in [*two.weights, *two.optimizer.variables]:
        first, second = (v.numpy() for v in variable.value.values)
        np.testing.assert_array_equal(first, second)
    assert one.optimizer.rewired() == two.optimizer.rewired()
    assert all(count > 5 for count in two.optimizer.rewired().values())
    pairs = zip(one.optimizer.variables, two.optimizer.variables, strict=True)
    for a, b in [*zip(one.weights, two.weights, strict=True), *pairs]:
        np.testing.assert_allclose(array(a), array(b), rtol=1e-3, atol=1e-5)
    masks = two.optimizer.masks()
    for path, mask in one.optimizer.masks().items():
        np.testing.assert_array_equal(mask, masks[path])
        assert 0.02 < mask.mean() < 0.5


def test_sparse_storage_is_refused():
    layer = SparseDense(6, 0.3)
    layer.build((None, 9))
    with pytest.raises(ValueError, match="use `DeepR`"):
        SoftDeepR(optimizers.SGD(0.1), 0.3).build(layer.trainable_variables)


def test_norms_are_those_of_active_connections():
    variable = kernel((20, 30))
    optimizer = SoftDeepR(
        optimizers.SGD(1e-3, clipnorm=0.5), 0.1, 1e-9, 1e-12, seed=1
    )
    optimizer.build([variable])
    mask = optimizer.masks()["layer/kernel"]
    before = array(variable)
    (given,) = gradients([variable], 0)
    optimizer.apply([given], [variable])
    moved = (before - array(variable))[mask] / 1e-3
    active = array(given)[mask]
    stayed = array(variable)[mask] != 0
    expected = active * 0.5 / np.linalg.norm(active)
    np.testing.assert_allclose(moved[stayed], expected[stayed], atol=1e-3)


def test_constraints_are_those_of_active_connections():
    variable = kernel((20, 30))
    variable.constraint = keras.constraints.UnitNorm(axis=None)
    optimizer = SoftDeepR(optimizers.SGD(0.01), 0.1, 1e-9, 1e-12, seed=1)
    optimizer.build([variable])
    mask = optimizer.masks()["layer/kernel"]
    (given,) = gradients([variable], 0)
    moved = np.where(mask, array(variable) - 0.01 * array(given), 0)
    optimizer.apply([given], [variable])
    found = array(variable)[mask]
    stayed = found != 0
    expected = moved[mask] / np.linalg.norm(moved)
    np.testing.assert_allclose(
        found[stayed], expected[stayed], rtol=1e-3, atol=1e-5
    )
    assert stayed.sum() > 50


def test_averages_are_those_of_active_connections():
    variable = kernel((20, 30))
    optimizer = SoftDeepR(
        optimizers.SGD(0.3),
        0.2,
        0.3,
        0.02,
        seed=1,
        use_ema=True,
        ema_momentum=0.8,
    )
    optimizer.build([variable])
    average = 0.0
    for step in range(6):
        optimizer.apply(gradients([variable], step), [variable])
        momentum = 0.8 if step else 0.0
        mask = optimizer.masks()["layer/kernel"]
        average = (momentum * average + (1 - momentum) * array(variable)) * mask
        np.testing.assert_allclose(
            array(optimizer._model_variables_moving_average[0]),
            average,
            rtol=1e-5,
            atol=1e-6,
        )
    assert (average == 0).sum() > 100


def test_steps_wait_for_accumulated_gradients():
    every, once = kernel((20, 30)), kernel((20, 30))
    slow = SoftDeepR(
        optimizers.SGD(0.3, gradient_accumulation_steps=3), 0.2, 0.1, seed=1
    )
    fast = SoftDeepR(optimizers.SGD(0.3), 0.2, 0.1, seed=1)
    slow.build([every])
    fast.build([once])
    given = [array(gradients([every], step)[0]) for step in range(3)]
    for step in range(3):
        before = [array(every), *state(slow)]
        slow.apply([ops.convert_to_tensor(given[step])], [every])
        after = [array(every), *state(slow)]
        if step < 2:
            for a, b in zip(before, after):
                np.testing.assert_array_equal(a, b)
    # The noise of the third step, where the other one makes its first.
    fast._iterations.assign(2)
    fast.apply([ops.convert_to_tensor(sum(given) / 3)], [once])
    np.testing.assert_allclose(state(slow)[0], state(fast)[0], atol=1e-5)
    assert slow.rewired() == fast.rewired()
    np.testing.assert_allclose(array(every), array(once), atol=1e-5)


def test_arrays_of_the_same_shape_have_signs_and_noise_of_their_own():
    variables = [kernel(None, n, values=np.zeros((20, 30))) for n in "ab"]
    optimizer = SoftDeepR(optimizers.SGD(0.3), 0.1, 0.1, 1e-3, seed=1)
    optimizer.build(variables)
    before, after = [], []
    for found in (before, after):
        found.extend(array(theta) for _, theta, *_ in optimizer._sparse)
        optimizer.apply([ops.zeros((20, 30))] * 2, variables)
    signs = [array(sign) for _, _, sign, *_ in optimizer._sparse]
    assert 0.4 < np.mean(signs[0] == signs[1]) < 0.6
    moved = [b - a for a, b in zip(before, after)]
    # Above the bound both move by their noise alone.
    free = (moved[0] != 0) & (moved[1] != 0)
    free &= (before[0] < 0) & (before[1] < 0)
    assert free.sum() > 100
    assert abs(np.corrcoef(moved[0][free], moved[1][free])[0, 1]) < 0.2


def test_arrays_of_another_precision():
    variable = kernel((20, 30), dtype="bfloat16")
    optimizer = SoftDeepR(optimizers.SGD(0.3), 0.2, 0.3, 0.02, seed=1)
    optimizer.build([variable])
    _, sign = state(optimizer)
    for step in range(3):
        optimizer.apply(gradients([variable], step), [variable])
    weight = array(variable).astype("float32")
    assert variable.dtype == "bfloat16" and (weight * sign >= 0).all()
    mask = optimizer.masks()["layer/kernel"]
    assert not weight[~mask].any() and 0 < mask.sum() < 600
    assert optimizer.rewired()["layer/kernel"] > 5
