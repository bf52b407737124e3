"""What the configurations of the three fusion models share: the choice of layers and what follows from it."""

from collections.abc import Sequence

from transformers import PretrainedConfig

from .fusion import resolve_fusion_layers

CUSTOM_PIPELINES = {
    "feature-extraction": {
        "impl": "pipeline_audio_embedding.AudioEmbeddingPipeline",
        "pt": ["AutoModel"],
        "type": "audio",
    }
}


def require_positive_integers(**values: object) -> None:
    """Raise a ValueError that names the first argument which is not an integer above 0."""
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} has to be an integer above 0, not {value!r}.")


def require_sizes(name: str, sizes: Sequence[int], count: int) -> list[int]:
    """`sizes` as a list; a ValueError where they are not `count` integers above 0."""
    if not isinstance(sizes, (list, tuple)) or len(sizes) != count:
        raise ValueError(f"{name} has to be {count} sizes, one a layer, not {sizes!r}.")
    require_positive_integers(**{f"{name}[{index}]": size for index, size in enumerate(sizes)})
    return list(sizes)


class FusionConfig(PretrainedConfig):
    """Base of the fusion models' configurations.

    A subclass calls this class's `__init__`, sets its own fields, and then calls `choose_layers`. It says which layers
    there are in `valid_layers` and `layer_sizes`, and how long a frame embedding is in `mel_frames_per_frame`.

    Args:
        sampling_rate: Of the recordings that the network was trained on, in Hz.
        hop_length: From one mel frame to the next, in samples.
    """

    _auto_class = "AutoConfig"
    # How many mel frames lie between the beginnings of two frame embeddings.
    mel_frames_per_frame = 1

    def __init__(self, sampling_rate: int = 16000, hop_length: int = 160, **kwargs):
        kwargs.setdefault("custom_pipelines", CUSTOM_PIPELINES)
        super().__init__(**kwargs)
        require_positive_integers(sampling_rate=sampling_rate, hop_length=hop_length)
        self.sampling_rate = sampling_rate
        self.hop_length = hop_length

    def choose_layers(self, fusion_layers: Sequence[int] | None, depth: int | None) -> None:
        """Set which layers are fused and built.

        Args:
            fusion_layers: The layers whose outputs are concatenated, or None for the network's own unfused embedding.
            depth: The deepest layer whose weights the model holds; by default the deepest one that is used. Nothing
                deeper is built, stored or computed.

        Raises:
            ValueError: A layer is unknown, repeated or deeper than `depth`, or `depth` is no layer.
        """
        self.fusion_layers = list(fusion_layers) if isinstance(fusion_layers, tuple) else fusion_layers
        self.depth = self.unfused_layer if depth is None else depth
        fused_layers = self.fused_layers
        if depth is None:
            self.depth = fused_layers[-1]

    @property
    def valid_layers(self) -> tuple[int, ...]:
        """The layers that can be fused, in the order of the network."""
        raise AttributeError(f"{type(self).__name__} has to define valid_layers.")

    @property
    def unfused_layer(self) -> int:
        """The layer whose output alone is the network's own embedding; there is none deeper."""
        return self.valid_layers[-1]

    @property
    def layer_sizes(self) -> dict[int, int]:
        """The dimension of each layer's frame embeddings, that of the unfused one included."""
        raise AttributeError(f"{type(self).__name__} has to define layer_sizes.")

    @property
    def fused_layers(self) -> tuple[int, ...]:
        """The layers that make the embedding, checked and in the order of the network.

        Raises:
            ValueError: A layer is unknown, repeated or deeper than `depth`, or `depth` is no layer.
        """
        layers = tuple(self.layer_sizes)
        if type(self.depth) is not int or self.depth not in layers:
            raise ValueError(f"depth has to be one of the layers {', '.join(map(str, layers))}, not {self.depth!r}.")
        if self.fusion_layers is not None:
            return resolve_fusion_layers(self.fusion_layers, self.valid_layers, self.depth)
        if self.depth < self.unfused_layer:
            raise ValueError(
                "fusion_layers=None asks for the unfused embedding, which needs the whole network "
                f"(depth={self.unfused_layer}), but this model holds weights only up to depth={self.depth}. Name "
                f"layers up to {self.depth}, or export the model again with `hf-gar export --all-layers`."
            )
        return (self.unfused_layer,)

    @property
    def embedding_size(self) -> int:
        """The dimension D of the clip and frame embeddings."""
        return sum(self.layer_sizes[layer] for layer in self.fused_layers)

    @property
    def frame_hop_s(self) -> float:
        """From one frame embedding to the next, in seconds."""
        return self.mel_frames_per_frame * self.hop_length / self.sampling_rate
