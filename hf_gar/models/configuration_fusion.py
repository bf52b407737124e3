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


class FusionConfig(PretrainedConfig):
    """Base of the fusion models' configurations.

    A subclass sets its fields and then calls this class's `__init__`; it says which layers there are in
    `valid_layers`, `unfused_depth`, `layer_sizes` and `unfused_size`.

    Args:
        fusion_layers: The layers whose outputs are concatenated, or None for the network's own unfused embedding.
        depth: The deepest layer whose weights the model holds; by default the deepest one that is used. Nothing
            deeper is built, stored or computed.
    """

    _auto_class = "AutoConfig"

    def __init__(self, fusion_layers: Sequence[int] | None = None, depth: int | None = None, **kwargs):
        kwargs.setdefault("custom_pipelines", CUSTOM_PIPELINES)
        super().__init__(**kwargs)
        self.fusion_layers = list(fusion_layers) if isinstance(fusion_layers, tuple) else fusion_layers
        self.depth = self.unfused_depth if depth is None else depth
        fused_layers = self.fused_layers
        if depth is None and fused_layers:
            self.depth = fused_layers[-1]

    @property
    def valid_layers(self) -> tuple[int, ...]:
        """The layers that can be fused, in the order of the network."""
        raise AttributeError(f"{type(self).__name__} has to define valid_layers.")

    @property
    def unfused_depth(self) -> int:
        """The depth that the unfused embedding needs, which is that of the whole network."""
        return self.valid_layers[-1]

    @property
    def fused_layers(self) -> tuple[int, ...]:
        """`fusion_layers` checked and in the order of the network; empty for the unfused embedding.

        Raises:
            ValueError: A layer is unknown, repeated or deeper than `depth`, or `depth` is out of range.
        """
        deepest = self.unfused_depth
        if type(self.depth) is not int or not self.valid_layers[0] <= self.depth <= deepest:
            raise ValueError(f"depth has to be from {self.valid_layers[0]} to {deepest}, not {self.depth!r}.")
        if self.fusion_layers is not None:
            return resolve_fusion_layers(self.fusion_layers, self.valid_layers, self.depth)
        if self.depth < deepest:
            raise ValueError(
                f"fusion_layers=None asks for the unfused embedding, which needs the whole network (depth={deepest}), "
                f"but this model holds weights only up to depth={self.depth}. Name layers up to {self.depth}, or "
                "export the model again with `hf-gar export --all-layers`."
            )
        return ()

    @property
    def layer_sizes(self) -> dict[int, int]:
        """The dimension that each layer adds to the embedding."""
        raise AttributeError(f"{type(self).__name__} has to define layer_sizes.")

    @property
    def unfused_size(self) -> int:
        """The dimension of the unfused embedding."""
        raise AttributeError(f"{type(self).__name__} has to define unfused_size.")

    @property
    def embedding_size(self) -> int:
        """The dimension D of the clip and frame embeddings."""
        return sum(self.layer_sizes[layer] for layer in self.fused_layers) or self.unfused_size
