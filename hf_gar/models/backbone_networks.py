"""The audio networks of transformers that can be fused: where their layers are, and what their frames are made of."""

import copy
import math
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from .audio_network import AudioNetwork, NetworkOutputs
from .fusion import tap_to_frames

FIXED = "The network takes inputs of a fixed length, of {} time steps, not {}."


class WaveformTransformer(AudioNetwork):
    """Convolutions on a waveform, then transformer blocks: Wav2Vec2 and those like it."""

    @property
    def frame_window(self) -> int:
        window, hop = 1, 1
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            window, hop = window + (kernel - 1) * hop, hop * stride
        return window

    @property
    def frame_hop(self) -> int:
        return math.prod(self.config.conv_stride)


class Wav2Vec2Like(WaveformTransformer):
    """Wav2Vec2 and its relatives, which are safe under padding where their convolutions normalise each frame alone."""

    @property
    def is_padding_safe(self) -> bool:  # type: ignore[override]
        return self.config.feat_extract_norm == "layer" and not getattr(self.config, "conv_pos_batch_norm", False)

    @property
    def final_norm(self) -> str | None:  # type: ignore[override]
        return "encoder.layer_norm" if self.config.do_stable_layer_norm else None  # the others' is before the blocks


class Wav2Vec2(Wav2Vec2Like):
    """Baevski et al., 2020."""

    class_name = "Wav2Vec2Model"


class Hubert(Wav2Vec2Like):
    """Hsu et al., 2021."""

    class_name = "HubertModel"


class WavLM(Wav2Vec2Like):
    """Chen et al., 2021."""

    class_name = "WavLMModel"


class UniSpeech(Wav2Vec2Like):
    """Wang et al., 2021."""

    class_name = "UniSpeechModel"


class UniSpeechSat(Wav2Vec2Like):
    """Chen et al., 2021."""

    class_name = "UniSpeechSatModel"


class Data2VecAudio(WaveformTransformer):
    """Baevski et al., 2022. Its position embeddings are convolutions on convolutions, which see the padding."""

    class_name = "Data2VecAudioModel"


class Wav2Vec2Conformer(WaveformTransformer):
    """Wav2Vec2 with Conformer blocks, whose convolutions see the padding."""

    class_name = "Wav2Vec2ConformerModel"
    final_norm = "encoder.layer_norm"


class SEW(WaveformTransformer):
    """Wu et al., 2021: the blocks run at a lower rate, which is that of the frames."""

    class_name = "SEWModel"
    unused_modules = ("encoder.upsample",)

    @property
    def frame_window(self) -> int:
        return super().frame_window + (self.config.squeeze_factor - 1) * super().frame_hop

    @property
    def frame_hop(self) -> int:
        return super().frame_hop * self.config.squeeze_factor


class SpectrogramNetwork(AudioNetwork):
    """A network that takes spectrograms, (batch, time, mel)."""

    def as_input(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs

    @property
    def feature_size(self) -> int:
        return self.config.num_mel_bins


class Wav2Vec2Bert(SpectrogramNetwork):
    """Barrault et al., "Seamless", 2023: Conformer blocks on pairs of mel frames, each of which is a frame."""

    class_name = "Wav2Vec2BertModel"
    input_name = "input_features"
    is_padding_safe = True
    frame_window = frame_hop = 1

    @property
    def feature_size(self) -> int:
        return self.config.feature_projection_input_dim


class FixedLengthNetwork(SpectrogramNetwork):
    """A network that takes spectrograms of one length, and attends to all of it."""

    def check(self) -> None:
        own = self.own_length
        if self.input_length != own:
            raise ValueError(FIXED.format(own, self.input_length))

    @property
    def own_length(self) -> int:
        """The length of the inputs that the configuration tells, in mel frames."""
        raise NotImplementedError(f"{type(self).__name__} has to define own_length.")


class Whisper(FixedLengthNetwork):
    """Radford et al., 2022: the encoder, on 30 seconds."""

    module = "whisper.modeling_whisper"
    class_name = "WhisperEncoder"
    input_name = "input_features"
    depth_field = "encoder_layers"
    block_paths = ("layers.{}",)
    final_norm = "layer_norm"
    ends_with_norm = True
    # A convolution every 2 mel frames, the first of them at the beginning.
    frame_window, frame_hop = 1, 2

    @property
    def own_length(self) -> int:
        return self.config.max_source_positions * self.frame_hop

    @property
    def layer_sizes(self) -> dict[int, int]:
        return dict.fromkeys(range(self.num_layers + 1), self.config.d_model)

    def as_input(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.transpose(1, 2)


class AST(FixedLengthNetwork):
    """Gong et al., 2021: a frame is a column of patches, beside the class and distillation tokens."""

    class_name = "ASTModel"
    block_paths = ("encoder.layer.{}", "layers.{}")
    final_norm = "layernorm"
    has_clip_tokens = True

    @property
    def own_length(self) -> int:
        return self.config.max_length

    @property
    def frame_window(self) -> int:
        return self.config.patch_size

    @property
    def frame_hop(self) -> int:
        return self.config.time_stride

    def frames(self, hidden_state: torch.Tensor, layer: int) -> torch.Tensor:
        rows = (self.config.num_mel_bins - self.config.patch_size) // self.config.frequency_stride + 1
        return hidden_state[:, 2:].unflatten(1, (rows, -1)).mean(1)

    def clips(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return hidden_state[:, :2].mean(1)


class Clap(FixedLengthNetwork):
    """Wu et al., 2023: the audio tower, HTS-AT. Its layers are stages, of other widths and rates.

    The spectrogram is cut into pieces in time, which lie below each other in a square image. A stage's output is a grid
    of patches, (batch, token, channel) with tokens by rows; its frames are max-pooled to the rate of the last stage.
    """

    class_name = "ClapAudioModel"
    input_name = "input_features"
    block_paths = ("audio_encoder.layers.{}",)
    unused_modules = ("audio_encoder.norm",)
    has_attentions = False  # they are within small windows

    def check(self) -> None:
        if self.input_length is None or not 1 < self.input_length <= self.config.spec_size * self.pieces:
            raise ValueError(FIXED.format(f"at most {self.config.spec_size * self.pieces}", self.input_length))

    @classmethod
    def count_layers(cls, config: PretrainedConfig) -> int:
        return len(config.depths)

    @property
    def pieces(self) -> int:
        """The pieces of a spectrogram in its image."""
        return self.config.spec_size // self.config.num_mel_bins

    def grid(self, layer: int) -> tuple[int, int]:
        """The patches of a layer: over the time of a spectrogram, and over its frequencies."""
        stride = self.config.patch_stride
        side = self.config.spec_size // (stride if isinstance(stride, int) else stride[0])
        side >>= min(layer, self.num_layers - 1)  # all stages but the last halve it
        return side * self.pieces, side // self.pieces

    @property
    def layer_sizes(self) -> dict[int, int]:
        width, last = self.config.patch_embeds_hidden_size, self.num_layers - 1
        return {layer: width * 2 ** min(layer, last) * self.grid(layer)[1] for layer in range(self.num_layers + 1)}

    @property
    def frame_hop(self) -> float:
        assert self.input_length is not None
        return (self.input_length - 1) / self.grid(self.num_layers)[0]

    @property
    def frame_window(self) -> float:
        return self.frame_hop

    def build(self, depth: int) -> tuple[nn.Module, nn.Module]:
        network: Any = self.network_class()(copy.deepcopy(self.config))
        encoder = network.audio_encoder
        encoder.layers = encoder.layers[: max(1, depth)]
        encoder.norm = nn.Identity()
        return network, nn.Identity()

    def run(
        self, network: Any, inputs: torch.Tensor, mask: torch.Tensor | None, with_attentions: bool = False
    ) -> NetworkOutputs:
        encoder = network.audio_encoder
        normalized = encoder.batch_norm(inputs[:, None].transpose(1, 3)).transpose(1, 3)
        # Nothing is longer than the network takes: no clip is fused with crops of itself.
        x = encoder.patch_embed(encoder.reshape_mel2img(normalized), is_longer_idx=[])
        states = [x]
        for stage, resolution in zip(encoder.layers, encoder.input_resolutions, strict=False):
            x = stage(x, resolution)[0]
            states.append(x)
        return NetworkOutputs(states)

    def frames(self, hidden_state: torch.Tensor, layer: int) -> torch.Tensor:
        time, frequencies = self.grid(layer)
        # Rows are pieces by frequencies, columns the times of a piece.
        image = hidden_state.transpose(1, 2).unflatten(2, (self.pieces, frequencies, time // self.pieces))
        tap = image.transpose(3, 4).flatten(2, 3)  # (batch, channel, time, frequency)
        return tap_to_frames(tap, time // self.grid(self.num_layers)[0])


class Dac(AudioNetwork):
    """Kumar et al., 2023: the encoder of a neural codec. Its layers are those that lower the rate, and its own output.

    They are max-pooled to the rate of the last. Nothing is quantised.
    """

    module = "dac.modeling_dac"
    class_name = "DacEncoder"
    block_paths = ("block.{}",)
    last_modules = ("snake1", "conv2")
    has_attentions = False

    @property
    def ratios(self) -> list[int]:
        """By how much each layer but the last lowers the rate."""
        return list(self.config.downsampling_ratios)

    @classmethod
    def count_layers(cls, config: PretrainedConfig) -> int:
        return len(config.downsampling_ratios) + 1

    @property
    def layer_sizes(self) -> dict[int, int]:
        width = self.config.encoder_hidden_size
        return {layer: width * 2**layer for layer in range(self.num_layers)} | {
            self.num_layers: self.config.hidden_size
        }

    @property
    def frame_hop(self) -> int:
        return math.prod(self.ratios)

    @property
    def frame_window(self) -> int:
        return self.frame_hop

    def build(self, depth: int) -> tuple[nn.Module, nn.Module]:
        network: Any = self.network_class()(copy.deepcopy(self.config))
        if depth < self.num_layers:
            network.block = network.block[: max(1, depth)]
            network.snake1 = network.conv2 = nn.Identity()
        return network, nn.Identity()

    def run(
        self, network: Any, inputs: torch.Tensor, mask: torch.Tensor | None, with_attentions: bool = False
    ) -> NetworkOutputs:
        # Codecs pad the end of a clip; a frame that is not the clip's alone is then dropped.
        x = network.conv1(nn.functional.pad(inputs.transpose(1, 2), (0, -inputs.shape[1] % self.frame_hop)))
        states = [x]
        for block in network.block:
            x = block(x)
            states.append(x)
        if len(states) == self.num_layers:
            states.append(network.conv2(network.snake1(x)))
        frames = inputs.shape[1] // self.frame_hop
        counts = [frames * math.prod(self.ratios[layer:]) for layer in range(len(states))]
        return NetworkOutputs(
            [state[:, :, :count].transpose(1, 2) for state, count in zip(states, counts, strict=True)]
        )

    def frames(self, hidden_state: torch.Tensor, layer: int) -> torch.Tensor:
        steps = math.prod(self.ratios[layer:])
        return tap_to_frames(hidden_state.transpose(1, 2)[..., None], steps)


# By the model_type of a network's configuration.
NETWORKS: dict[str, type[AudioNetwork]] = {
    "audio-spectrogram-transformer": AST,
    "clap_audio_model": Clap,
    "dac": Dac,
    "data2vec-audio": Data2VecAudio,
    "hubert": Hubert,
    "sew": SEW,
    "unispeech": UniSpeech,
    "unispeech-sat": UniSpeechSat,
    "wav2vec2": Wav2Vec2,
    "wav2vec2-bert": Wav2Vec2Bert,
    "wav2vec2-conformer": Wav2Vec2Conformer,
    "wavlm": WavLM,
    "whisper": Whisper,
}
