"""Small untrained networks of transformers' own classes, as repositories that transformers writes."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import transformers

CONVOLUTIONS = {
    "conv_dim": (16, 16),
    "conv_stride": (40, 20),
    "conv_kernel": (80, 30),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
BLOCKS = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
GROUP = {**CONVOLUTIONS, **BLOCKS, "feat_extract_norm": "group", "do_stable_layer_norm": False}
LAYER = {**CONVOLUTIONS, **BLOCKS, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
WAVEFORM = ("Wav2Vec2FeatureExtractor", {"return_attention_mask": True})


class TinyBackbone(NamedTuple):
    """The names of classes of transformers, with the arguments of the configuration and the feature extractor."""

    model: str
    config: str
    fields: dict
    extractor: str
    extractor_fields: dict
    is_padding_safe: bool
    head: str | None = None  # of a class with more than the network itself, which is what is saved


BACKBONES = {
    "wav2vec2 group": TinyBackbone(
        "Wav2Vec2Model", "Wav2Vec2Config", GROUP, *WAVEFORM, False, "Wav2Vec2ForPreTraining"
    ),
    "wav2vec2 layer": TinyBackbone("Wav2Vec2Model", "Wav2Vec2Config", LAYER, *WAVEFORM, True, "Wav2Vec2ForCTC"),
    "hubert": TinyBackbone("HubertModel", "HubertConfig", LAYER, *WAVEFORM, True),
    "hubert batch": TinyBackbone(
        "HubertModel", "HubertConfig", {**LAYER, "conv_pos_batch_norm": True}, *WAVEFORM, False
    ),
    "wavlm": TinyBackbone("WavLMModel", "WavLMConfig", LAYER, *WAVEFORM, True),
    "unispeech": TinyBackbone("UniSpeechModel", "UniSpeechConfig", LAYER, *WAVEFORM, True),
    "unispeech-sat": TinyBackbone("UniSpeechSatModel", "UniSpeechSatConfig", LAYER, *WAVEFORM, True),
    "data2vec": TinyBackbone(
        "Data2VecAudioModel",
        "Data2VecAudioConfig",
        {**CONVOLUTIONS, **BLOCKS, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5},
        *WAVEFORM,
        False,
    ),
    "sew": TinyBackbone("SEWModel", "SEWConfig", {**CONVOLUTIONS, **BLOCKS}, *WAVEFORM, False),
    "wav2vec2-conformer": TinyBackbone(
        "Wav2Vec2ConformerModel",
        "Wav2Vec2ConformerConfig",
        {**LAYER, "conv_depthwise_kernel_size": 5},
        *WAVEFORM,
        False,
    ),
    "wav2vec2-bert": TinyBackbone(
        "Wav2Vec2BertModel",
        "Wav2Vec2BertConfig",
        {**BLOCKS, "conv_depthwise_kernel_size": 5, "output_hidden_size": 24, "add_adapter": True},
        "SeamlessM4TFeatureExtractor",
        {},
        True,
    ),
    "whisper": TinyBackbone(
        "WhisperModel",
        "WhisperConfig",
        {
            "d_model": 24,
            "encoder_layers": 3,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 48,
            "vocab_size": 50,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "num_mel_bins": 16,
            "max_source_positions": 200,
        },
        "WhisperFeatureExtractor",
        {"feature_size": 16, "chunk_length": 4},
        True,
        "WhisperForConditionalGeneration",
    ),
    "ast": TinyBackbone(
        "ASTModel",
        "ASTConfig",
        {**BLOCKS, "num_mel_bins": 32, "max_length": 500},
        "ASTFeatureExtractor",
        {"num_mel_bins": 32, "max_length": 500},
        True,
        "ASTForAudioClassification",
    ),
    "clap": TinyBackbone(
        "ClapModel",
        "ClapConfig",
        {
            "text_config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 30},
            "audio_config": {
                "spec_size": 128,
                "num_mel_bins": 32,
                "window_size": 4,
                "patch_embeds_hidden_size": 8,
                "depths": [2, 2, 2],
                "num_attention_heads": [2, 2, 2],
                "num_hidden_layers": 3,
                "hidden_size": 32,
                "enable_fusion": True,
            },
        },
        "ClapFeatureExtractor",
        {"feature_size": 32, "sampling_rate": 16000, "hop_length": 160, "max_length_s": 5, "frequency_max": 8000},
        True,
    ),
    "dac": TinyBackbone(
        "DacModel",
        "DacConfig",
        {
            "encoder_hidden_size": 4,
            "downsampling_ratios": [4, 8, 10],
            "decoder_hidden_size": 64,
            "n_codebooks": 1,
            "codebook_size": 8,
            "codebook_dim": 2,
            "hidden_size": 24,
            "sampling_rate": 16000,
        },
        "DacFeatureExtractor",
        {"sampling_rate": 16000, "hop_length": 320},
        False,
    ),
}


def find_class(name: str) -> Callable:
    """A class of transformers; the test is skipped where this version has none of that name."""
    try:
        return getattr(transformers, name)
    except AttributeError:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")


def save_backbone(name: str, folder: Path, **options) -> tuple[torch.nn.Module, Callable]:
    """Write a repository as transformers does; gives its network and feature extractor, as of `save_pretrained`."""
    tiny = BACKBONES[name]
    torch.manual_seed(0)
    whole = find_class(tiny.head or tiny.model)(find_class(tiny.config)(**tiny.fields)).eval()
    with torch.no_grad():
        for parameter_name, parameter in [*whole.named_parameters(), *whole.named_buffers()]:
            if parameter_name.endswith("running_var"):
                parameter.uniform_(0.5, 2)
            elif parameter.ndim == 1 and parameter.is_floating_point():
                parameter.copy_(1 + 0.3 * torch.randn(parameter.shape))
    whole.save_pretrained(folder, **options)
    extractor = find_class(tiny.extractor)(**tiny.extractor_fields)
    extractor.save_pretrained(folder)
    return whole.base_model, extractor
