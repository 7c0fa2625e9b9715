"""Rules that give each layer of a LiteRT file a precision of its own."""

import dataclasses
import importlib.util
import re

from l0keras.connections.arguments import check_regex
from l0keras.export.litert.quantization import QUANTIZATIONS

BITS = (4, 8)
COMPUTE = ("dynamic", "float32", "int8", "int16")
BLOCKS = (32, 64, 128, 256)
METHODS = ("min_max", "mse", "octav", "gptq")


@dataclasses.dataclass(frozen=True)
class Precision:
    """How the weights of layers are written, and how these compute.

    For the argument `quantization` of `export_tflite`. Files with these are
    made by LiteRT's quantizer, which the extra `quantizer` installs. Weights
    have a scale for each unit or channel, or for each block of its inputs.

    | compute | arithmetic of the layer | data |
    | --- | --- | --- |
    | `"dynamic"` | int8, with ranges found on the fly; inputs are floats | no |
    | `"float32"` | floats, on weights that are turned into floats | no |
    | `"int8"` | int8 | yes |
    | `"int16"` | int16 | yes |

    Args:
        weights: the number of bits of a weight, 8 or 4.
        compute: a row of the table.
        block: 32, 64, 128 or 256 inputs have a scale of their own, for dense
            layers with 4 bits and `"dynamic"`, whose number of inputs must be
            a multiple of it. `None` for one scale.
        method: how the scales are chosen: `"min_max"`, the largest weight;
            `"mse"` or `"octav"`, a smaller one with a smaller mean squared
            error; `"gptq"`, which also moves weights so that the outputs on
            examples change little, for dense layers, and needs data.

    Raises:
        ValueError: an argument is not as above.

    Source: for `"gptq"`, Frantar, Ashkboos, Hoefler and Alistarh, ICLR 2023
    (arXiv:2210.17323); for `"octav"`, Sakr et al., ICML 2022
    (arXiv:2206.06501).
    """

    weights: int = 8
    compute: str = "dynamic"
    block: int | None = None
    method: str = "min_max"

    def __post_init__(self):
        for name, allowed in (
            ("weights", BITS),
            ("compute", COMPUTE),
            ("block", (None, *BLOCKS)),
            ("method", METHODS),
        ):
            value = getattr(self, name)
            if value not in allowed or isinstance(value, bool):
                raise ValueError(
                    f"Argument `{name}` must be one of "
                    f"{', '.join(map(repr, allowed))}. "
                    f"Received: {name}={value!r}"
                )
        if self.block and (self.weights, self.compute) != (4, "dynamic"):
            raise ValueError(
                "Argument `block` must be None but for weights=4 and "
                "compute='dynamic': LiteRT has no other kernels for blocks. "
                f"Received: {self!r}"
            )

    def __str__(self):
        block = f" in blocks of {self.block}" if self.block else ""
        return f"int{self.weights}{block}, {self.compute}, {self.method}"

    @property
    def integers(self):
        """Whether ranges of tensors are measured on examples."""
        return self.compute in ("int8", "int16")

    @property
    def needs_data(self):
        return self.integers or self.method == "gptq"

    @property
    def tolerance(self):
        """See `Quantization`. Few bits show in the outputs."""
        if self.weights == 4:
            return 0.5
        return QUANTIZATIONS["int8"].tolerance


class Rules:
    """The precisions of the layers of a model, by their names.

    Args:
        rules: a dictionary from regular expressions to a `Precision` each, or
            to `None` for floats.

    Attributes:
        tolerance, bits, needs_data, integers, io_type, optimize: as those of
            a `Quantization`.

    Raises:
        ValueError: `rules` is not such a dictionary.
    """

    io_type = None
    optimize = True

    def __init__(self, rules):
        for regex, precision in rules.items():
            if not isinstance(precision, (Precision, type(None))):
                raise ValueError(
                    "Argument `quantization` must be a name or a dictionary "
                    "from regular expressions to `Precision` or None. "
                    f"Received: {precision!r} for {regex!r}"
                )
            check_regex("quantization", regex)
        self.rules = dict(rules)
        given = [one for one in rules.values() if one is not None]
        if not given:
            raise ValueError(
                "Argument `quantization` must be None for floats alone, or "
                f"have a `Precision`. Received: quantization={rules!r}"
            )
        self.tolerance = max(one.tolerance for one in given)
        self.bits = min(one.weights for one in given)
        self.needs_data = any(one.needs_data for one in given)
        self.integers = any(one.integers for one in given)

    def check(self, layers):
        """Refuses rules that are found in no name of these layers."""
        for regex in self.rules:
            if not any(re.search(regex, name) for name in layers):
                raise ValueError(
                    "A key of argument `quantization` must be found in the "
                    f"name of a layer. Received: {regex!r}. Layers are: "
                    f"{', '.join(layers)}"
                )

    def find(self, names):
        """The `Precision` of the first rule for one of several names."""
        for regex, precision in self.rules.items():
            if any(re.search(regex, name) for name in names):
                return precision
        return None


def mode_of(quantization):
    """The `Quantization` of a name, or the `Rules` of a dictionary."""
    if isinstance(quantization, dict):
        return Rules(quantization)
    return QUANTIZATIONS[quantization]


def label_of(quantization):
    """One line about a quantization."""
    if isinstance(quantization, dict):
        return "; ".join(
            f"{regex!r}: {precision or 'float32'}"
            for regex, precision in quantization.items()
        )
    return quantization or "float32"


def check_quantizer():
    """Raises an `ImportError` unless LiteRT's quantizer is installed."""
    if importlib.util.find_spec("litert_quantizer") is None:
        raise ImportError(
            "litert-quantizer quantizes by rules for layers. Install it with "
            "`pip install 'l0keras[quantizer]'`."
        )
