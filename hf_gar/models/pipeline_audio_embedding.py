"""The pipeline "feature-extraction" for the fusion models: recordings in, embeddings out."""

from typing import Any

import torch
from transformers import Pipeline

from .audio_loading import load_audio


class AudioEmbeddingPipeline(Pipeline):
    """Embed recordings.

    ```python
    embed = pipeline("feature-extraction", model="org/cnn14-fusion", trust_remote_code=True)
    embed("a.wav")  # the clip embedding, a list of D floats
    ```
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Embed one recording or a list of them.

        Args:
            inputs: A path, URL, bytes of an audio file, waveform at the model's rate, {"array" or "raw",
                "sampling_rate"}, {"bytes" or "path"}, or torchcodec decoder; or a list or a dataset of those.
            pool (bool): True (the default) for the clip embedding, (D,); False for frame embeddings, (frame, D).
            timestamps (bool): Return {"embeddings": (frame, D), "timestamps": (frame,)} with each frame's centre in
                seconds.
            return_tensors (bool): Return float32 tensors in place of nested lists.
            batch_size (int): How many recordings to pass through the model at a time.

        Raises:
            ValueError: A recording cannot be decoded, is empty, or has samples that are not finite.
            OSError: A file is missing or cannot be read.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **kwargs):
        options = {"pool", "timestamps", "return_tensors"}
        unknown = kwargs.keys() - options
        if unknown:
            raise TypeError(f"Unknown options {sorted(unknown)}; this pipeline has {sorted(options)}.")
        return {}, {}, kwargs

    def preprocess(self, inputs: Any) -> dict[str, torch.Tensor]:
        rate = self.feature_extractor.sampling_rate
        return self.feature_extractor(load_audio(inputs, rate), sampling_rate=rate, return_tensors="pt")

    def _forward(self, model_inputs: dict[str, torch.Tensor]) -> Any:
        return self.model(**model_inputs)

    def postprocess(
        self, model_outputs: Any, pool: bool = True, timestamps: bool = False, return_tensors: bool = False
    ) -> Any:
        if pool and not timestamps:
            return _as_result(model_outputs["pooler_output"][0], return_tensors)
        frames = model_outputs["last_hidden_state"][0, model_outputs["frame_mask"][0]]
        if not timestamps:
            return _as_result(frames, return_tensors)
        times = torch.from_numpy(self.feature_extractor.frame_times(len(frames)))
        return {"embeddings": _as_result(frames, return_tensors), "timestamps": _as_result(times, return_tensors)}


def _as_result(tensor: torch.Tensor, return_tensors: bool) -> Any:
    tensor = tensor.float()
    return tensor if return_tensors else tensor.tolist()
