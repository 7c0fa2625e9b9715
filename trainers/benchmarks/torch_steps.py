"""Training steps of gated networks in PyTorch, to compare with.

The networks, gates, penalty, optimizer, averages and metric are those of
`l0keras.models` with `gates="paper"`: Louizos, Welling and Kingma, ICLR 2018
(arXiv:1712.01312), as one writes them in PyTorch, operation by operation.
"""

import atexit
import importlib.util
import math
import os
import subprocess
import sys

import numpy as np

TEMPERATURE, GAMMA, ZETA = 2 / 3, -0.1, 1.1
LIMIT = math.log(100.0)
EMA = 0.999


def torch_steps(name, l0, batch_size, steps, num_threads=None):
    """A function that runs the training step of a gated network several times.

    It runs in a process of its own: PyTorch and TensorFlow bring libraries
    that cannot be in the same one.

    Args:
        name: `"lenet5"` or `"mlp"`.
        l0: the price of a weight.
        batch_size: examples in a step.
        steps: steps in one call of the function.
        num_threads: an integer, or `None` for as many as PyTorch takes.

    Returns:
        A function without arguments. It returns when all steps are done.

    Raises:
        ImportError: PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise ImportError(
            "Argument `model` must not be of PyTorch, or PyTorch has to be "
            f"installed: pip install torch. Received: model={name}_torch"
        )
    arguments = [name, l0, batch_size, steps, num_threads or 0]
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Threads that wait for work must not take time from TensorFlow's.
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        text=True,
    )
    # It ends with its input.
    atexit.register(process.stdin.close)

    def run():
        process.stdin.write("\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise RuntimeError(
                f"The process with PyTorch has ended with {process.wait()}."
            )

    return run


def _serve(name, l0, batch_size, steps, num_threads):
    """Runs the steps once for each line of the input."""
    import torch

    if num_threads:
        torch.set_num_threads(num_threads)
    run = _steps(torch, name, l0, batch_size, steps)
    for _ in sys.stdin:
        run()
        print(flush=True)


def _steps(torch, name, l0, batch_size, steps):
    model = _network(torch, name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    averages = [p.detach().clone() for p in model.parameters()]
    rng = np.random.default_rng(0)
    images = torch.tensor(
        rng.random((batch_size, 1, 28, 28), "float32").tolist()
    )
    labels = torch.tensor(rng.integers(0, 10, batch_size).tolist())
    gated = [layer for layer in model if hasattr(layer, "log_alpha")]

    def step():
        optimizer.zero_grad()
        logits = model(images)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss = loss + sum(layer.penalty(l0) for layer in gated)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for layer in gated:
                layer.log_alpha.clamp_(-LIMIT, LIMIT)
            for average, parameter in zip(averages, model.parameters()):
                average.mul_(EMA).add_(parameter, alpha=1 - EMA)
            correct = (logits.argmax(1) == labels).float().mean()
        return loss.item() + correct.item()

    def run():
        for _ in range(steps):
            step()

    return run


def _network(torch, name):
    nn = torch.nn

    class Gated(nn.Module):
        """A layer whose weights have a gate for each index of one axis."""

        def __init__(self, weight_shape, axis, bias, droprate):
            super().__init__()
            fan_in = math.prod(weight_shape[1:])
            self.weight = nn.Parameter(
                torch.randn(weight_shape) * math.sqrt(2 / fan_in)
            )
            self.bias = nn.Parameter(torch.zeros(bias))
            mean = math.log((1 - droprate) / droprate)
            count = weight_shape[axis]
            self.log_alpha = nn.Parameter(mean + 0.01 * torch.randn(count))
            self.shape = [1] * len(weight_shape)
            self.shape[axis] = count
            self.group_size = math.prod(weight_shape) // count

        def gates(self):
            u = torch.empty_like(self.log_alpha).uniform_(1e-6, 1 - 1e-6)
            logistic = torch.log(u) - torch.log(1 - u)
            s = torch.sigmoid((logistic + self.log_alpha) / TEMPERATURE)
            return torch.clamp(s * (ZETA - GAMMA) + GAMMA, 0, 1)

        def gated_weight(self):
            return self.weight * self.gates().view(self.shape)

        def penalty(self, l0):
            shift = TEMPERATURE * math.log(-GAMMA / ZETA)
            prob = torch.sigmoid(self.log_alpha - shift)
            return l0 * self.group_size * prob.sum()

    class Linear(Gated):
        def __init__(self, inputs, units, droprate):
            super().__init__((units, inputs), 1, units, droprate)

        def forward(self, x):
            return nn.functional.linear(x, self.gated_weight(), self.bias)

    class Conv(Gated):
        def __init__(self, inputs, filters, droprate):
            super().__init__((filters, inputs, 5, 5), 0, filters, droprate)

        def forward(self, x):
            return nn.functional.conv2d(x, self.gated_weight(), self.bias)

    if name == "mlp":
        return nn.Sequential(
            *(nn.Flatten(), Linear(784, 300, 0.2), nn.ReLU()),
            *(Linear(300, 100, 0.5), nn.ReLU(), Linear(100, 10, 0.5)),
        )
    return nn.Sequential(
        *(Conv(1, 20, 0.5), nn.ReLU(), nn.MaxPool2d(2)),
        *(Conv(20, 50, 0.5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(Linear(800, 500, 0.5), nn.ReLU(), Linear(500, 10, 0.5)),
    )


if __name__ == "__main__":
    network, price, *numbers = sys.argv[1:]
    _serve(network, float(price), *map(int, numbers))
