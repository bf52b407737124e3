"""A model and its feature extractor as one PyTorch module on waveforms, as HEAR and X-ARES take models."""

from pathlib import Path

import torch

from hf_gar.embedding.embedder import AudioEmbedder, Embedding
from hf_gar.hub.load import find_repository
from hf_gar.tiny import TINY


class WaveformModel(torch.nn.Module):
    """Embeds batches of waveforms of any length, in chunks where they are long.

    Args:
        model: A folder, or a name on the Hub; by default the small network that comes with hf_gar.
        revision: A branch, tag or commit, for a name on the Hub.
    """

    def __init__(self, model: str | Path = TINY, revision: str | None = None):
        super().__init__()
        repository = find_repository(model, revision)
        self.model = repository.load_model()
        self.feature_extractor = repository.load_feature_extractor()

    def embed(self, audio: torch.Tensor, with_frames: bool = False) -> list[Embedding]:
        """The embeddings of waveforms (batch, samples) at the model's rate."""
        device = str(self.model.device)
        embedder = AudioEmbedder(self.model, self.feature_extractor, device=device, with_frames=with_frames)
        return embedder.process(list(audio))

    def stack(self, arrays: list) -> torch.Tensor:
        """Arrays of one shape as a tensor (batch, ...) where the model is."""
        return torch.stack([torch.from_numpy(array) for array in arrays]).to(self.model.device)
