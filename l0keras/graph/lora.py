"""Low-rank adaptation (LoRA): layers with the product A B beside a kernel."""

import keras

from l0keras.copying import Copier

# What it may stand beside.
_ADAPTED = ("kernel", "embeddings")


def has_lora(layer):
    """Whether a layer of Keras, or one inside of it, has LoRA weights.

    Those that are quantized do not count: they cannot be merged exactly.
    """
    if not type(layer).__module__.startswith("keras."):
        return False
    if not isinstance(layer, keras.Layer) or isinstance(layer, keras.Model):
        return False
    return any(map(_is_adapted, layer._flatten_layers()))


def merge_lora(layer):
    """A copy of a layer whose kernels are those that it computes with.

    That is W + alpha / rank A B, without A and B.

    Source: Hu et al., ICLR 2022 (arXiv:2106.09685), section 4.1.
    """
    copy = Copier().layer(layer)
    for inside in copy._flatten_layers():
        if _is_adapted(inside):
            _merge(inside)
    return copy


def _is_adapted(layer):
    adapted = getattr(layer, "lora_enabled", False)
    return adapted and not layer.quantization_mode


def _merge(layer):
    (name,) = [n for n in _ADAPTED if hasattr(layer, f"lora_{n}_a")]
    variable = getattr(layer, f"_{name}")
    variable.assign(getattr(layer, name))
    variable.trainable = layer.trainable
    for part in ("a", "b"):
        layer._untrack_variable(getattr(layer, f"lora_{name}_{part}"))
        delattr(layer, f"lora_{name}_{part}")
    layer.lora_enabled = False
    layer.lora_rank = layer.lora_alpha = None
