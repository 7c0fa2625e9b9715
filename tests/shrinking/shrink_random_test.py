"""Shrink against the model that it cuts, on random graphs in training."""

import keras
import pytest
from keras import ops

import l0keras
from l0keras.gates import gates_of
from l0keras.shrinking.close_gates import close
from l0keras.shrinking.shrink import shrink_parts
from tests.shrinking.agreement import check_agreement
from tests.stripping.random_graph import random_graph
from tests.stripping.random_graph import random_inputs

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are using a softmax"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist"),
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="JAX compiles each operation anew for each shape",
    ),
]
EXAMPLES = 12


def without_noise(model):
    """Noise of other layers than gates is drawn for whole tensors."""
    for layer in model._flatten_layers():
        for name in ("rate", "stddev"):
            if hasattr(layer, name):
                setattr(layer, name, 0.0)


def step(model, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(model(x, training=True))
        loss = sum(ops.mean(ops.square(y - 0.5)) for y in outputs)
        loss = loss + sum(model.losses)
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables)
    gradients = [
        tf.zeros_like(v) if g is None else g
        for g, v in zip(gradients, variables)
    ]
    model.optimizer.apply(gradients, variables)
    return float(loss)


def shut_for_good(model):
    gates = gates_of(model)
    shut = [ops.convert_to_numpy(gate.log_alpha) < -4.5 for gate in gates]
    close(model, gates, shut)


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_training_goes_on(seed):
    model, rng = random_graph(seed)
    without_noise(model)
    model.compile(
        keras.optimizers.Adam(1e-3, use_ema=True), "mse", run_eagerly=True
    )
    x = random_inputs(model, rng, batch=4)
    step(model, x)
    shut_for_good(model)
    if gates_of(model):
        l0keras.close_gates(model, below=1e-9)
    smaller, origins = shrink_parts(model)
    if smaller is model:
        return
    check_agreement(model, smaller, origins, 0)
    for _ in range(2):
        loss = step(model, x)
        assert step(smaller, x) == pytest.approx(loss, rel=1e-4, abs=1e-5)
    check_agreement(model, smaller, origins, 1e-4)
