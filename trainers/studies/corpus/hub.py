"""Backbones of keras-hub at small sizes, with random weights."""

import functools

import numpy as np

from trainers.studies.corpus.entry import entry
from trainers.studies.corpus.reasons import NORMALIZED

WORDS = 60
LENGTH = 12
# What most of them share.
TEXT = {
    "vocabulary_size": WORDS,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 32,
    "intermediate_dim": 64,
    "max_sequence_length": LENGTH,
}
DECODER = {
    "vocabulary_size": WORDS,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 32,
    "intermediate_dim": 64,
}


def token_inputs(rng, examples, segments=None):
    """Tokens, of which each row is padded behind a length of its own."""
    lengths = rng.integers(LENGTH // 2, LENGTH + 1, (examples, 1))
    inputs = {
        "token_ids": rng.integers(1, WORDS, (examples, LENGTH)),
        "padding_mask": (np.arange(LENGTH) < lengths).astype("int32"),
    }
    if segments:
        inputs["segment_ids"] = rng.integers(0, segments, (examples, LENGTH))
    return inputs


def images_of(size):
    def inputs(rng, examples):
        return rng.random((examples, size, size, 3), "float32")

    return inputs


def two_texts(rng, examples):
    tokens = token_inputs(rng, examples)
    return {
        f"{side}_{name}": array
        for side in ("encoder", "decoder")
        for name, array in tokens.items()
    }


def sound_and_text(rng, examples):
    tokens = token_inputs(rng, examples)
    sound = rng.standard_normal((examples, 24, 16)).astype("float32")
    return {
        "encoder_features": sound,
        **{f"decoder_{name}": array for name, array in tokens.items()},
    }


hub_entry = functools.partial(entry, area="keras-hub", needs="keras_hub")
with_segments = functools.partial(token_inputs, segments=2)


@hub_entry(
    "BERT of keras-hub", inputs=with_segments, limit=0.6, inherent=NORMALIZED
)
def bert():
    from keras_hub import models

    return models.BertBackbone(**TEXT)


@hub_entry(
    "DistilBERT of keras-hub",
    inputs=token_inputs,
    limit=0.6,
    inherent=NORMALIZED,
)
def distil_bert():
    from keras_hub import models

    return models.DistilBertBackbone(**TEXT)


@hub_entry(
    "RoBERTa of keras-hub", inputs=token_inputs, limit=0.6, inherent=NORMALIZED
)
def roberta():
    from keras_hub import models

    return models.RobertaBackbone(**TEXT)


@hub_entry(
    "ALBERT of keras-hub",
    inputs=with_segments,
    limit=0.65,
    inherent=NORMALIZED,
)
def albert():
    from keras_hub import models

    return models.AlbertBackbone(**TEXT, embedding_dim=16)


@hub_entry(
    "FNet of keras-hub",
    inputs=with_segments,
    known="a Fourier transform over a length that is not known is not opened",
)
def f_net():
    from keras_hub import models

    arguments = {key: TEXT[key] for key in TEXT if key != "num_heads"}
    return models.FNetBackbone(**arguments, num_segments=2)


@hub_entry(
    "BERT classifier of keras-hub",
    inputs=with_segments,
    limit=0.6,
    inherent=NORMALIZED,
)
def bert_classifier():
    from keras_hub import models

    return models.BertTextClassifier(models.BertBackbone(**TEXT), num_classes=3)


@hub_entry(
    "BERT masked LM of keras-hub",
    inputs=lambda rng, examples: {
        **with_segments(rng, examples),
        "mask_positions": rng.integers(0, LENGTH, (examples, 3)),
    },
    limit=0.6,
    inherent=NORMALIZED,
)
def bert_masked_lm():
    from keras_hub import models

    return models.BertMaskedLM(models.BertBackbone(**TEXT))


@hub_entry(
    "GPT-2 of keras-hub", inputs=token_inputs, limit=0.8, inherent=NORMALIZED
)
def gpt2():
    from keras_hub import models

    return models.GPT2Backbone(**TEXT)


@hub_entry(
    "GPT-2 language model of keras-hub",
    inputs=token_inputs,
    limit=0.6,
    inherent=NORMALIZED,
)
def gpt2_language_model():
    from keras_hub import models

    return models.GPT2CausalLM(models.GPT2Backbone(**TEXT))


@hub_entry(
    "OPT of keras-hub", inputs=token_inputs, limit=0.8, inherent=NORMALIZED
)
def opt():
    from keras_hub import models

    return models.OPTBackbone(**TEXT)


@hub_entry(
    "T5 of keras-hub",
    inputs=two_texts,
    known="layers that hand on what is no tensor are not opened",
)
def t5():
    from keras_hub import models

    arguments = {key: TEXT[key] for key in TEXT if key != "max_sequence_length"}
    return models.T5Backbone(**arguments)


@hub_entry(
    "Llama of keras-hub", inputs=token_inputs, limit=0.8, inherent=NORMALIZED
)
def llama():
    from keras_hub import models

    return models.LlamaBackbone(**DECODER)


@hub_entry(
    "Gemma of keras-hub",
    inputs=token_inputs,
    known="the normalization of this model cannot be saved by itself",
)
def gemma():
    from keras_hub import models

    return models.GemmaBackbone(**DECODER, head_dim=8)


@hub_entry(
    "Whisper of keras-hub",
    inputs=sound_and_text,
    limit=0.8,
    inherent=NORMALIZED,
)
def whisper():
    from keras_hub import models

    arguments = {key: TEXT[key] for key in TEXT if key != "max_sequence_length"}
    return models.WhisperBackbone(
        **arguments,
        num_mels=16,
        max_encoder_sequence_length=24,
        max_decoder_sequence_length=LENGTH,
    )


@hub_entry(
    "ViT of keras-hub", inputs=images_of(32), limit=0.7, inherent=NORMALIZED
)
def vit():
    from keras_hub import models

    return models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        mlp_dim=64,
    )


@hub_entry("MobileNet of keras-hub", inputs=images_of(32))
def mobilenet():
    from keras_hub import models

    return models.MobileNetBackbone(
        stackwise_expansion=[[24, 32], [48, 48]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[12, 12], [16, 16]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=48,
        depthwise_filters=16,
        last_layer_filter=48,
        depthwise_stride=1,
        depthwise_residual=True,
        squeeze_and_excite=0.5,
        image_shape=(32, 32, 3),
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=16,
    )


@hub_entry("ResNet of keras-hub", inputs=images_of(32))
def resnet():
    from keras_hub import models

    return models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )


def mix_transformer():
    from keras_hub import models

    return models.MiTBackbone(
        image_shape=(32, 32, 3),
        num_layers=2,
        hidden_dims=[16, 32],
        layerwise_depths=[1, 1],
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        max_drop_path_rate=0.1,
    )


@hub_entry(
    "MiT of keras-hub", inputs=images_of(32), limit=0.7, inherent=NORMALIZED
)
def mit():
    return mix_transformer()


@hub_entry(
    "SegFormer of keras-hub",
    inputs=images_of(32),
    limit=0.7,
    inherent=NORMALIZED,
)
def segformer():
    from keras_hub import models

    return models.SegFormerBackbone(
        image_encoder=mix_transformer(), projection_filters=16
    )
