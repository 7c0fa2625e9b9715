import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from l0keras.compile_settings import CompileSettings
from l0keras.compile_settings import fresh_optimizer
from l0keras.optimizers import DeepR
from l0keras.optimizers import OptimizerGroups

schedules = keras.optimizers.schedules


def network(size=3):
    inputs = keras.Input((4,))
    outputs = [
        layers.Dense(size, name=name)(inputs) for name in ("one", "other")
    ]
    return keras.Model(inputs, outputs)


def single(size=3):
    return keras.Sequential([keras.Input((4,)), layers.Dense(size)])


def train(model, size=3):
    model.fit(
        np.ones((8, 4), "float32"), np.ones((8, size), "float32"), verbose=0
    )


class Own(keras.optimizers.SGD):
    """It has an argument of which its configuration says nothing."""

    def __init__(self, boost, learning_rate):
        super().__init__(learning_rate)
        self.boost = boost

    def build(self, variables):
        super().build(variables)
        self.seen = self.add_optimizer_variables(variables, "seen")

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate * self.boost)


class OwnSchedule(schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.5


def test_each_model_gets_its_own_fresh_objects():
    model, other = single(), single(5)
    loss = keras.losses.MeanSquaredError(name="own")
    metric = keras.metrics.MeanAbsoluteError(name="mae")
    optimizer = keras.optimizers.Adam(0.03, beta_1=0.7)
    model.compile(
        *(optimizer, loss),
        metrics=[metric, "mse"],
        weighted_metrics=["mape"],
        steps_per_execution=2,
        jit_compile=False,
    )
    train(model)
    state = [ops.convert_to_numpy(v).copy() for v in optimizer.variables]
    seen = float(metric.result())
    CompileSettings(model).compile(other)
    config = other.optimizer.get_config()
    assert config == optimizer.get_config()
    assert config["learning_rate"] == pytest.approx(0.03)
    assert int(other.optimizer.iterations) == 0
    assert other.loss is not loss and other.loss.name == "own"
    assert other.steps_per_execution == 2 and not other.jit_compile
    train(other, 5)
    x, y = np.ones((4, 4)), np.ones((4, 5))
    names = set(other.evaluate(x, y, verbose=0, return_dict=True))
    assert names == {"loss", "mae", "mse", "mape"}
    # Nothing of the first one has moved.
    assert float(metric.result()) == seen
    for variable, value in zip(optimizer.variables, state, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_what_cannot_be_serialized_comes_along():
    calls = []

    def loss(y, p):
        calls.append(1)
        return ops.mean(ops.square(y - p))

    class Metric(keras.metrics.Mean):
        def __init__(self, factor):
            super().__init__(name="own")
            self.factor = factor

        def update_state(self, y, p, sample_weight=None):
            super().update_state(self.factor * p)

    model, other = single(), single()
    model.compile(Own(3.0, learning_rate=0.1), loss, metrics=[Metric(2.0)])
    train(model)
    calls.clear()
    CompileSettings(model).compile(other)
    assert type(other.optimizer) is Own and other.optimizer.boost == 3.0
    assert not other.optimizer.built and int(other.optimizer.iterations) == 0
    assert other.loss is loss
    train(other)
    assert calls and len(other.optimizer.seen) == 2
    assert other.optimizer.seen[0] is not model.optimizer.seen[0]
    # The step is that of the first one.
    kernel = other.layers[0].kernel
    start = ops.convert_to_numpy(kernel).copy()
    ones = [ops.ones(v.shape) for v in other.trainable_variables]
    other.optimizer.apply(ones)
    np.testing.assert_allclose(ops.convert_to_numpy(kernel), start - 0.3, 1e-5)


@pytest.mark.parametrize("rate", [OwnSchedule(), lambda: 0.5])
def test_schedules_of_ones_own_are_taken_as_they_are(rate):
    model, other = single(), single()
    model.compile(keras.optimizers.SGD(rate), "mse")
    CompileSettings(model).compile(other, decay_steps=4)
    assert type(other.optimizer._learning_rate) is type(rate)
    train(other)
    assert float(other.optimizer.learning_rate) == 0.5


def rate_at(optimizer, step):
    return float(ops.convert_to_numpy(optimizer._learning_rate(step)))


def inner(optimizer):
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return [optimizer.inner_optimizer]
    return list(getattr(optimizer, "optimizers", [optimizer]))


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.4, momentum=0.9, gradient_accumulation_steps=2),
        keras.optimizers.LossScaleOptimizer(Own(1.0, learning_rate=0.4)),
        DeepR(keras.optimizers.SGD(0.4)),
        Own(1.0, learning_rate=0.4),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_numbers_fall_along_a_cosine(optimizer):
    model, other = single(), single()
    model.compile(optimizer, "mse")
    settings = CompileSettings(model)
    settings.compile(other, decay_steps=10)
    (one,) = inner(other.optimizer)
    rates = [rate_at(one, step) for step in range(11)]
    expected = 0.2 * (1 + np.cos(np.pi * np.arange(11) / 10))
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-7)
    settings.compile(other)
    (one,) = inner(other.optimizer)
    assert float(one._learning_rate) == pytest.approx(0.4)


def test_each_group_falls_from_its_own():
    groups = OptimizerGroups(
        [
            ("bias", keras.optimizers.SGD(0.4)),
            (".", keras.optimizers.SGD(schedules.CosineDecay(0.2, 7))),
        ]
    )
    model, other = single(), single()
    model.compile(groups, "mse")
    CompileSettings(model).compile(other, decay_steps=10)
    first, second = other.optimizer.optimizers
    assert rate_at(first, 5) == pytest.approx(0.2)
    assert rate_at(second, 5) == pytest.approx(rate_at(groups.optimizers[1], 5))


def test_half_precision_is_scaled_whatever_the_policy_is_now():
    keras.config.set_dtype_policy("mixed_float16")
    model = single()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    keras.config.set_dtype_policy("float32")
    other = single()
    CompileSettings(model).compile(other)
    assert isinstance(other.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(other.optimizer.inner_optimizer, keras.optimizers.SGD)


def test_losses_and_weights_by_output():
    model = network()
    for loss in (["mse", None], {"one": "mse"}):
        weights = [2.0, 1.0] if isinstance(loss, list) else {"one": 2.0}
        model.compile("sgd", loss, loss_weights=weights)
        found = CompileSettings(model).losses(model)
        assert found == [("mse", 2.0), (None, 1.0)]
    model.compile("sgd", "mae")
    assert CompileSettings(model).losses(model) == [("mae", 1.0)] * 2
    named = keras.Model(model.input, dict(zip("ba", model.output)))
    named.compile("sgd", {"a": "mae", "b": "mse"})
    assert CompileSettings(named).losses(named) == [("mae", 1.0), ("mse", 1.0)]


def test_a_compile_of_ones_own_keeps_its_arguments_on_the_model():
    class Compiled(keras.Model):
        def compile(self, factor, **kwargs):
            super().compile("sgd", "mse")
            self.factor = factor

    inputs = keras.Input((4,))
    model, other = (Compiled(inputs, layers.Dense(3)(inputs)) for _ in range(2))
    model.compile(3.0)
    CompileSettings(model).compile(other)
    assert other.compiled and other.loss == "mse"


def test_a_model_that_is_not_compiled_is_refused():
    with pytest.raises(ValueError, match=r"call `model\.compile\(\.\.\.\)`"):
        CompileSettings(single())


def test_fresh_optimizers_have_no_state():
    model = single()
    optimizer = keras.optimizers.Adam(0.1)
    model.compile(optimizer, "mse")
    train(model)
    fresh = fresh_optimizer(optimizer)
    assert not fresh.built and int(fresh.iterations) == 0
