"""HEAR's interface (Turian et al., "HEAR: Holistic Evaluation of Audio Representations", 2022, arXiv 2203.03022).

`python -m heareval.embeddings.runner hf_gar.interop.hear --model FOLDER` embeds HEAR's tasks with a model repository.
"""

from typing import Any

import torch

from hf_gar.interop.waveforms import WaveformModel
from hf_gar.tiny import TINY

MILLISECONDS = 1000


class HearModel(WaveformModel):
    """A model as HEAR takes it. The arguments are `WaveformModel`'s."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.feature_extractor.sampling_rate

    @property
    def scene_embedding_size(self) -> int:
        """The dimension of clip embeddings."""
        return self.model.config.embedding_size

    @property
    def timestamp_embedding_size(self) -> int:
        """The dimension of frame embeddings."""
        return self.model.config.embedding_size


def load_model(model_file_path: str = TINY, revision: str | None = None) -> HearModel:
    """Load a model repository.

    Args:
        model_file_path: A folder, or a name on the Hub; where it is left out or empty, the small network that comes
            with hf_gar.
        revision: A branch, tag or commit, for a name on the Hub.
    """
    return HearModel(model_file_path or TINY, revision)


def get_scene_embeddings(audio: torch.Tensor, model: HearModel) -> torch.Tensor:
    """The clip embeddings (sound, D) of sounds (sound, samples), in float32."""
    return model.stack([embedding.clip for embedding in model.embed(audio, with_frames=False)])


def get_timestamp_embeddings(audio: torch.Tensor, model: HearModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The frame embeddings (sound, frame, D) of sounds (sound, samples), in float32, and the frames' centres in
    milliseconds, (sound, frame).
    """
    frames: list[Any] = [embedding.frames for embedding in model.embed(audio, with_frames=True)]
    times = [MILLISECONDS * model.feature_extractor.frame_times(len(each)) for each in frames]
    return model.stack(frames), model.stack(times)
