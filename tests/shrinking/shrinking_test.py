import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import l0keras
from l0keras.shrinking import shrinking as module
from l0keras.shrinking.close_gates import close
from l0keras.shrinking.work import saved_work
from tests.optimizers.sparse_training import two_replicas

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 8)).astype("float32")
Y = rng.integers(0, 3, 64)
STEPS, EPOCHS = 4, 6


def price_of_a_cut(monkeypatch, steps):
    monkeypatch.setattr(module, "steps_of_a_cut", lambda *_: steps)


def network():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    x = layers.Dense(24, name="hidden")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Dense(16, activation="relu", name="second")(x)
    return keras.Model(inputs, layers.Dense(3, name="out")(x))


def gated(model=None, eager=True):
    """A model whose gates close one after another."""
    model = l0keras.sparsify(model or network(), l0=0.05, seed=3)
    for gate in l0keras.gates_of(model):
        gate.log_alpha.assign(np.linspace(-5, 3, gate.log_alpha.shape[0]))
    model.compile(
        keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=eager,
    )
    return model


def data(done=0):
    del done
    return {"x": X, "y": Y, "batch_size": 16, "shuffle": False, "verbose": 0}


def trained(
    model, shrinking, callbacks=(), initial_epoch=0, epochs=EPOCHS, **kwargs
):
    return shrinking.fit(
        model,
        data,
        epochs=epochs,
        initial_epoch=initial_epoch,
        callbacks=list(callbacks),
        **kwargs,
    )


class Record(keras.callbacks.Callback):
    def __init__(self, stop_at=None):
        super().__init__()
        self.calls, self.widths, self.stop_at = [], [], stop_at

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(epoch)
        self.widths.append(self.model.count_params())

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.stop_at:
            raise KeyboardInterrupt

    def on_train_end(self, logs=None):
        self.calls.append("end")


def test_a_training_with_cuts_ends_as_one_with_closed_gates(monkeypatch):
    """Against one that closes the same gates and is never cut."""
    price_of_a_cut(monkeypatch, 0)
    shrinking, record = l0keras.Shrinking(STEPS, 16), Record()
    model = gated()
    smaller = trained(model, shrinking, [record])
    assert len(shrinking.cuts) > 1
    assert smaller.count_params() < 0.75 * model.count_params()
    # One training with one history for whoever watches it.
    assert record.calls == ["begin", *range(EPOCHS), "end"]
    assert record.widths == sorted(record.widths, reverse=True)
    assert smaller.history.epoch == list(range(EPOCHS))
    price_of_a_cut(monkeypatch, np.inf)
    idle = l0keras.Shrinking(STEPS, 16)
    other = gated()
    assert trained(other, idle) is other
    assert not idle.cuts
    np.testing.assert_allclose(
        smaller.history.history["loss"],
        other.history.history["loss"],
        rtol=1e-4,
    )
    np.testing.assert_allclose(smaller(X), other(X), rtol=0, atol=1e-3)
    # The model before the training takes back what was learned.
    for whole in (model, gated()):
        shrinking.fill(whole, smaller)
        np.testing.assert_allclose(whole(X), smaller(X), rtol=0, atol=1e-5)
        for one, two in zip(l0keras.gates_of(whole), l0keras.gates_of(other)):
            np.testing.assert_array_equal(
                one.closed_for_good(), two.closed_for_good()
            )


@pytest.fixture(scope="module")
def straight():
    """A training without a stop: its cuts and its model."""
    with pytest.MonkeyPatch.context() as patch:
        price_of_a_cut(patch, 0)
        shrinking = l0keras.Shrinking(STEPS, 16)
        return shrinking.cuts, trained(gated(), shrinking)


# Before a cut, after one, and at the end.
@pytest.mark.parametrize("stop_at", [1, 3, EPOCHS - 1])
def test_a_stopped_training_goes_on_bit_by_bit(
    stop_at, straight, monkeypatch, tmp_path
):
    price_of_a_cut(monkeypatch, 0)
    cuts, expected = straight
    path = tmp_path / "checkpoint.npz"
    shrinking = l0keras.Shrinking(STEPS, 16)
    checkpoint = l0keras.callbacks.Checkpoint(path, shrinking)
    with pytest.raises(KeyboardInterrupt):
        trained(gated(), shrinking, [checkpoint, Record(stop_at)])
    shrinking = l0keras.Shrinking(STEPS, 16)
    checkpoint = l0keras.callbacks.Checkpoint(path, shrinking)
    model, done = checkpoint.resume(gated())
    assert done == stop_at + 1
    record = Record()
    model = trained(model, shrinking, [checkpoint, record], done)
    assert record.calls == ["begin", *range(done, EPOCHS), "end"]
    assert shrinking.cuts == cuts
    for one, two in (
        (model, expected),
        (model.optimizer, expected.optimizer),
    ):
        for variable, other in zip(one.variables, two.variables, strict=True):
            np.testing.assert_array_equal(
                ops.convert_to_numpy(variable),
                ops.convert_to_numpy(other),
                err_msg=variable.path,
            )


def holding(kind):
    """A model half of whose weights are 0 for good, soon or already."""
    model = network()
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    groups = l0keras.weight_groups(model)
    if kind == "HoldZeros":
        for name in ("hidden", "second"):
            layer = model.get_layer(name)
            for weight in layer.weights:
                array = ops.convert_to_numpy(weight).copy()
                array[..., ::2] = 0
                weight.assign(array)
        for weight in model.get_layer("norm").trainable_weights:
            weight.assign(ops.convert_to_numpy(weight) * (np.arange(24) % 2))
        optimizer = l0keras.optimizers.HoldZeros(inner, {".": True})
    else:
        # The largest groups stay as they are, whatever they read.
        optimizer = getattr(l0keras.optimizers, kind)(
            inner,
            groups,
            l0keras.regularizers.GroupLasso(),
            strength=0.0,
            keep_at=5,
            keep=0.5,
        )
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    return model


@pytest.mark.parametrize("kind", ["HoldZeros", "HSPG", "ProximalSGD"])
def test_weights_that_stay_0_leave_too(kind, monkeypatch, tmp_path):
    price_of_a_cut(monkeypatch, np.inf)
    whole = trained(holding(kind), l0keras.Shrinking(STEPS, 16))
    price_of_a_cut(monkeypatch, 0)
    shrinking, record = l0keras.Shrinking(STEPS, 16), Record(3)
    path = tmp_path / "checkpoint.npz"
    checkpoint = l0keras.callbacks.Checkpoint(path, shrinking)
    with pytest.raises(KeyboardInterrupt):
        trained(holding(kind), shrinking, [checkpoint, record])
    assert shrinking.cuts and record.widths[-1] < 0.6 * record.widths[0]
    shrinking = l0keras.Shrinking(STEPS, 16)
    checkpoint = l0keras.callbacks.Checkpoint(path, shrinking)
    smaller, done = checkpoint.resume(holding(kind))
    smaller = trained(smaller, shrinking, [checkpoint], done)
    losses = [row["loss"] for row in checkpoint.history]
    expected = whole.history.history["loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(smaller(X), whole(X), rtol=0, atol=1e-3)
    first = holding(kind)
    shrinking.fill(first, smaller)
    np.testing.assert_allclose(first(X), smaller(X), rtol=0, atol=1e-5)


def test_a_model_that_cannot_be_cut_trains_on(monkeypatch):
    price_of_a_cut(monkeypatch, 0)
    model = gated()
    model.compile(keras.optimizers.Adafactor(), model.loss, run_eagerly=True)
    shrinking, record = l0keras.Shrinking(STEPS, 16), Record()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert trained(model, shrinking, [record]) is model
    [text] = [
        str(one.message)
        for one in seen
        if "all of its units" in str(one.message)
    ]
    assert "(Adafactor) cannot go on" in text
    assert not any(np.any(g.closed_for_good()) for g in l0keras.gates_of(model))
    assert record.calls == ["begin", *range(EPOCHS), "end"]
    assert not shrinking.cuts


def test_a_state_of_another_model_is_refused(monkeypatch, tmp_path):
    price_of_a_cut(monkeypatch, 0)
    shrinking = l0keras.Shrinking(STEPS, 16)
    checkpoint = l0keras.callbacks.Checkpoint(tmp_path / "c.npz", shrinking)
    with pytest.raises(KeyboardInterrupt):
        trained(gated(), shrinking, [checkpoint, Record(4)])
    other = keras.Sequential(
        [keras.Input((8,)), layers.Dense(5, name="other"), layers.Dense(3)]
    )
    with pytest.raises(l0keras.callbacks.CheckpointError, match="gates"):
        checkpoint.resume(gated(other))
    plain = l0keras.callbacks.Checkpoint(tmp_path / "c.npz")
    with pytest.raises(l0keras.callbacks.CheckpointError, match="shapes"):
        plain.resume(gated())


@pytest.mark.parametrize("name", ["steps_per_epoch", "batch_size"])
@pytest.mark.parametrize("number", [0, 1.5])
def test_refuses_counts_that_are_none(name, number):
    arguments = {"steps_per_epoch": 4, "batch_size": 16, name: number}
    with pytest.raises(
        ValueError, match=f"`{name}`.*Received: {name}={number}"
    ):
        l0keras.Shrinking(**arguments)


def test_what_a_cut_saves_is_counted():
    """Against the multiply-accumulates of what is left."""
    model = gated()
    gates = l0keras.gates_of(model)
    masks = [rng.random(gate.prob_open().shape) < 0.4 for gate in gates]
    close(model, gates, masks)
    smaller = l0keras.shrink(model)
    left = l0keras.count_macs(smaller) / l0keras.count_macs(model)
    assert saved_work(model) == pytest.approx(1 - left, abs=1e-9)
    assert saved_work(smaller) == 0


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow"
)
def test_replicas_shrink_alike(monkeypatch):
    losses = []
    for price in (0, np.inf):
        price_of_a_cut(monkeypatch, price)
        with two_replicas().scope():
            model = gated(eager=False)
        shrinking = l0keras.Shrinking(STEPS, 16)
        smaller = trained(model, shrinking, epochs=3)
        losses.append(smaller.history.history["loss"])
        assert bool(shrinking.cuts) == (price == 0)
    np.testing.assert_allclose(*losses, rtol=1e-3)
