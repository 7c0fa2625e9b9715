"""Rules for layers of KerasHub, by name: it need not be installed.

The names are those of KerasHub 0.32. Layers that are made of other layers need
no rule.
"""

from l0keras.graph.rules import attention
from l0keras.graph.rules import elementwise
from l0keras.graph.rules import embedding
from l0keras.graph.rules import normalization
from l0keras.graph.rules import whole

_PLACE = "keras_hub.src"
_LAYERS = {
    attention.Cached(): "cached_multi_head_attention.CachedMultiHeadAttention",
    embedding.Reversible(): "reversible_embedding.ReversibleEmbedding",
    embedding.PositionEmbedding(): "position_embedding.PositionEmbedding",
    whole.Whole(
        "makes waves whose lengths depend on how many channels there are"
    ): "sine_position_encoding.SinePositionEncoding",
    whole.Whole("has no argument for its epsilon, which would change"): (
        "rms_normalization.RMSNormalization"
    ),
}
_MODELS = {
    normalization.RMSNormalization(): (
        "gemma4.gemma4_layers.Gemma4FrozenNorm "
        "gemma4.gemma4_layers.RMSNormalization "
        "gpt_oss.gpt_oss_layer_norm.GptOssLayerNormalization "
        "llama.llama_layernorm.LlamaLayerNorm "
        "mistral.mistral_layer_norm.MistralLayerNormalization "
        "mixtral.mixtral_layer_norm.MixtralLayerNormalization "
        "phi3.phi3_layernorm.Phi3LayerNorm "
        "qwen.qwen_layernorm.QwenLayerNorm "
        "qwen_moe.qwen_moe_layernorm.QwenMoeLayerNorm "
        "roformer_v2.roformer_v2_attention.RoformerNorm "
        "t5.t5_layer_norm.T5LayerNorm"
    ),
    normalization.RMSNormalization(width="head_dim"): (
        "qwen3.qwen3_layernorm.Qwen3LayerNorm "
        "qwen3_5.qwen3_5_layers.Qwen3_5RMSNormGated "
        "qwen3_moe.qwen3_moe_layernorm.Qwen3MoeLayerNorm"
    ),
    normalization.RMSNormalization(width="head_dim", plus=1.0): (
        "qwen3_5.qwen3_5_layers.Qwen3_5LayerNorm"
    ),
    normalization.RMSNormalization(plus=1.0): (
        "edrec.edrec_layers.EdRecRMSNormalization "
        "gemma.rms_normalization.RMSNormalization "
        "gemma3.gemma3_layers.RMSNormalization"
    ),
    normalization.RMSNormalization("eps", width="dim"): (
        "gemma3n.rms_normalization.Gemma3nRMSNorm "
        "mobilenetv5.mobilenetv5_layers.RmsNorm2d"
    ),
    elementwise.LayerScale("hidden_dim"): (
        "dinov2.dinov2_layers.DINOV2LayerScale "
        "dinov3.dinov3_layers.DINOV3LayerScale"
    ),
    elementwise.LayerScale("dim"): (
        "mobilenetv5.mobilenetv5_layers.LayerScale2d"
    ),
    elementwise.Identity(): (
        "dinov2.dinov2_layers.DINOV2DropPath "
        "dinov3.dinov3_layers.DINOV3DropPath "
        "mit.mit_layers.DropPath "
        "mobilenetv5.mobilenetv5_layers.DropPath "
        "swin_transformer.swin_transformer_layers.DropPath"
    ),
}
RULES = {
    f"{_PLACE}.{folder}.{name}": rule
    for folder, table in (("layers.modeling", _LAYERS), ("models", _MODELS))
    for rule, names in table.items()
    for name in names.split()
}
