"""The pipeline "feature-extraction" for the fusion models: recordings of any length in, embeddings out."""

from typing import Any

import torch

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import check_embedding
from .chunks import split_chunks  # noqa: F401
from .fusion import span_mask  # noqa: F401
from .pipeline_recordings import RecordingPipeline


class AudioEmbeddingPipeline(RecordingPipeline):
    """Embed recordings.

    ```python
    embed = pipeline("feature-extraction", model="org/cnn14-fusion", trust_remote_code=True)
    embed("a.wav")  # the clip embedding, a list of D floats
    ```

    A call takes what `RecordingPipeline.__call__` does, and these options:

    Args:
        pool (bool): True (the default) for the clip embedding, (D,); False for frame embeddings, (frame, D).
        timestamps (bool): Return {"embeddings": (frame, D), "timestamps": (frame,)} with each frame's centre in
            seconds.
        return_tensors (bool): Return float32 tensors in place of nested lists.
    """

    forward_options = frozenset({"pool", "timestamps"})
    postprocess_options = frozenset({"pool", "timestamps", "return_tensors"})

    def _forward(self, model_inputs: dict[str, Any], pool: bool = True, timestamps: bool = False) -> dict[str, Any]:
        # Of a long recording, the frames are kept only where they are asked for.
        return super()._forward(model_inputs, with_frames=timestamps or not pool)

    def postprocess(
        self,
        chunks: list[dict[str, Any]],
        pool: bool = True,
        timestamps: bool = False,
        return_tensors: bool = False,
    ) -> Any:
        if pool and not timestamps:
            return _as_result(self.merge(chunks).cpu(), return_tensors)
        frames = torch.cat([chunk["frames"][0] for chunk in chunks])
        check_embedding(frames.cpu().numpy(), chunks[0]["name"])
        if not timestamps:
            return _as_result(frames, return_tensors)
        times = torch.from_numpy(self.feature_extractor.frame_times(len(frames)))
        return {"embeddings": _as_result(frames, return_tensors), "timestamps": _as_result(times, return_tensors)}


def _as_result(tensor: torch.Tensor, return_tensors: bool) -> Any:
    tensor = tensor.float()
    return tensor if return_tensors else tensor.tolist()
