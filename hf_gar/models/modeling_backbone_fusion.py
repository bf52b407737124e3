"""BackboneFusion: any audio network of transformers, with the multilayer fusion of its layers."""

import re
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import AudioError  # noqa: F401
from .audio_network import AudioNetwork  # noqa: F401
from .backbone_networks import NETWORKS  # noqa: F401
from .chunks import split_chunks  # noqa: F401
from .configuration_backbone_fusion import BackboneFusionConfig
from .configuration_fusion import FusionConfig  # noqa: F401
from .fusion import ClipPooling, DurationPooling, FramePooling, is_traced
from .modeling_classification import FusionForAudioClassification
from .modeling_fusion import FusionModel, FusionPreTrainedModel, LayerOutputs, require_eager
from .module_audio_embedding import AudioEmbeddingModule  # noqa: F401
from .pipeline_audio_classification import FusionAudioClassificationPipeline  # noqa: F401
from .pipeline_audio_embedding import AudioEmbeddingPipeline  # noqa: F401
from .pipeline_recordings import RecordingPipeline  # noqa: F401

# Other names of the same weights, by what they are stored as.
OTHER_NAMES = {
    # transformers 5 names some of AST's weights differently when it has loaded them, and stores them as before.
    r"network\.layers\.(\d+)\.attention\.q_proj\.": r"network.encoder.layer.\1.attention.attention.query.",
    r"network\.layers\.(\d+)\.attention\.k_proj\.": r"network.encoder.layer.\1.attention.attention.key.",
    r"network\.layers\.(\d+)\.attention\.v_proj\.": r"network.encoder.layer.\1.attention.attention.value.",
    r"network\.layers\.(\d+)\.attention\.o_proj\.": r"network.encoder.layer.\1.attention.output.dense.",
    r"network\.layers\.(\d+)\.mlp\.fc1\.": r"network.encoder.layer.\1.intermediate.dense.",
    r"network\.layers\.(\d+)\.mlp\.fc2\.": r"network.encoder.layer.\1.output.dense.",
    r"network\.layers\.(\d+)\.layernorm_": r"network.encoder.layer.\1.layernorm_",
    # Weight normalisation as PyTorch called it before; transformers 5.0 still stores it so.
    r"\.weight_g$": ".parametrizations.weight.original0",
    r"\.weight_v$": ".parametrizations.weight.original1",
}


class BackboneFusionPreTrainedModel(FusionPreTrainedModel):
    """Base of BackboneFusion and of what holds it as its `backbone`, under a head: what both support."""

    config_class = BackboneFusionConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @staticmethod
    def stored_name(name: str) -> str:
        for pattern, stored in OTHER_NAMES.items():
            name = re.sub(pattern, stored, name)
        return name


class BackboneFusionModel(BackboneFusionPreTrainedModel, FusionModel):
    """A network of transformers with the multilayer fusion of Niizumi et al., 2022.

    The input is (batch, time, feature), of a waveform (batch, samples, 1). The network is transformers' own, without
    what comes after the last block that is held. Where it is not safe under padding (`config.is_padding_safe`), clips
    of other lengths in a batch are run apart.
    """

    def __init__(self, config: BackboneFusionConfig):
        super().__init__(config)
        self.fused_layers = config.fused_layers
        self.audio_network = config.audio_network
        self.network, final_norm = self.audio_network.build(config.depth)
        self.audio_network.run_first(self.network, self.fused_layers[-1])
        self.final_norm = final_norm if config.has_final_norm else None
        self._no_split_modules = _indivisible(self.network)
        # The weights of deeper blocks may be in a repository that is loaded with a smaller depth.
        deeper = range(config.depth, self.audio_network.num_layers)
        beyond = [path.format(block) for path in self.audio_network.block_paths for block in deeper]
        beyond += self.audio_network.last_modules if deeper else ()
        self._keys_to_ignore_on_load_unexpected = [rf"\bnetwork\.{re.escape(path)}\." for path in beyond]
        if self.final_norm is None:
            self._keys_to_ignore_on_load_unexpected.append(r"\bfinal_norm\.")
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """What the network makes its first hidden state with."""
        network: Any = self.network
        return network.get_input_embeddings()

    @property
    def has_attentions(self) -> bool:  # type: ignore[override]
        return self.audio_network.has_attentions

    def layer_outputs(
        self, input_features: torch.Tensor, lengths: torch.Tensor | None, output_attentions: bool = False
    ) -> LayerOutputs:
        config = self.config
        time = input_features.shape[1]
        if config.input_length is not None and time != config.input_length:
            raise ValueError(
                f"input_features has {time} time steps, but this model takes {config.input_length}, as its feature "
                "extractor makes them. Long recordings are for the pipeline or hf_gar, which cut them into chunks."
            )
        if output_attentions:
            network: Any = self.network
            require_eager(network.config._attn_implementation)
        inputs = input_features.to(self.dtype)
        if lengths is None or config.input_length is not None:
            return self._run(inputs, None, output_attentions)
        if config.is_padding_safe:
            mask = torch.arange(time, device=inputs.device)[None] < lengths[:, None]
            return self._run(inputs, mask, output_attentions)
        if is_traced():
            raise ValueError(
                f"{self.audio_network.class_name} is not safe under padding: where it is compiled or exported, run "
                "clips of one length at a time, without attention_mask."
            )
        return self._run_by_length(inputs, lengths, output_attentions)

    def _run_by_length(self, inputs: torch.Tensor, lengths: torch.Tensor, output_attentions: bool) -> LayerOutputs:
        """The outputs of the chosen layers, of clips of each length in a batch of their own; zeros after their ends."""
        groups = [(lengths == length).nonzero()[:, 0] for length in lengths.unique()]
        parts = [self._run(inputs[rows, : lengths[rows[0]]], None, output_attentions) for rows in groups]
        order = torch.cat(groups).argsort()
        tokens = int(self.frame_counts(torch.tensor(inputs.shape[1])))
        pad = nn.functional.pad
        frames = [
            torch.cat([pad(each, (0, 0, 0, tokens - each.shape[1])) for each in layer])[order]
            for layer in zip(*(part.frames for part in parts), strict=True)
        ]
        attentions = [
            torch.cat([pad(each, (0, tokens - each.shape[3], 0, tokens - each.shape[2])) for each in block])[order]
            for block in zip(*(part.attentions or () for part in parts), strict=True)
        ]
        return LayerOutputs(frames, attentions=attentions if output_attentions else None)

    def _run(self, inputs: torch.Tensor, mask: torch.Tensor | None, output_attentions: bool = False) -> LayerOutputs:
        """The outputs of the chosen layers; `mask` as in `AudioNetwork.run`."""
        states, attentions = self.audio_network.run(self.network, inputs, mask, output_attentions)
        frames, clips = [], []
        for layer in self.fused_layers:
            state, is_last = states[layer], layer == self.audio_network.num_layers
            if self.final_norm is not None and (
                self.config.normalize_layers or (is_last and self.audio_network.ends_with_norm)
            ):
                state = self.final_norm(state)
            frames.append(self.audio_network.frames(state, layer))
            if self.config.pooling == "cls":
                clips.append(self.audio_network.clips(state))
        return LayerOutputs(frames, clips or None, None if attentions is None else list(attentions))

    def frame_counts(self, lengths: torch.Tensor) -> torch.Tensor:
        window, hop = self.audio_network.frame_window, self.audio_network.frame_hop
        counts = ((lengths - window).div(hop, rounding_mode="floor") + 1).long()
        # A clip that is shorter than a frame has one, where inputs are filled to one length.
        return counts.clamp(min=0 if self.config.input_length is None else 1)

    @property
    def minimum_length(self) -> int:  # type: ignore[override]
        return 1 if self.config.input_length is not None else int(self.audio_network.frame_window)

    @property
    def pooling(self) -> ClipPooling:
        if self.config.pooling == "cls":
            return DurationPooling()
        return FramePooling(with_maximum=self.config.pooling == "max_mean")


class BackboneFusionForAudioClassification(BackboneFusionPreTrainedModel, FusionForAudioClassification):
    """A network of transformers with a classifier on the clip embedding of the configuration's `classified_layers`."""

    backbone_class = BackboneFusionModel


def _indivisible(network: nn.Module) -> list[str]:
    """The classes of modules that stay on one device: blocks, and those of which a child computes its weights."""
    modules = list(network.modules())
    blocks = {type(block).__name__ for module in modules if isinstance(module, nn.ModuleList) for block in module}
    computing = {type(each).__name__ for each in modules if any(map(parametrize.is_parametrized, each.children()))}
    return sorted(blocks | computing)
