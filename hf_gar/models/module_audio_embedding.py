"""The fusion models' module for sentence-transformers: recordings of any length in, clip embeddings out.

A repository's `modules.json` names it. It takes nothing of sentence-transformers, which calls it.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel

from .audio_integrity import DamageError  # noqa: F401 - of a local folder, transformers 4 copies only what is named
from .audio_loading import check_embedding, open_recording, read_samples
from .chunks import split_chunks
from .fusion import span_mask

MODULES_FILE = "modules.json"
MODULES = json.dumps(
    [{"idx": 0, "name": "0", "path": "", "type": "module_audio_embedding.AudioEmbeddingModule"}], indent=2
)
# Audio that passes through the model at a time, padding included: bounds the memory that it takes.
SECONDS_AT_ONCE = 80.0


class RecordingChunk(NamedTuple):
    """A chunk of a recording, which has a number in its batch, and a name in errors: its spectrogram (time, mel).

    Its own frame embeddings are [first, stop) of those that it gives.
    """

    recording: int
    name: str
    spectrogram: np.ndarray
    first: int
    stop: int


class AudioEmbeddingModule(torch.nn.Module):
    """What a SentenceTransformer of a fusion model consists of: it gives the embeddings of `AudioEmbeddingPipeline`.

    ```python
    model = SentenceTransformer("org/cnn14-fusion", trust_remote_code=True)
    embeddings = model.encode(["a.wav", {"array": waveform, "sampling_rate": 44100}])  # (2, D)
    ```

    Args:
        model: A `FusionModel`.
        feature_extractor: Its feature extractor, which takes over the model's `max_length`.
    """

    # What sentence-transformers asks: its files are beside `modules.json`, and this is what it takes.
    save_in_root = True
    modalities = ["audio"]

    def __init__(self, model: Any, feature_extractor: Any):
        super().__init__()
        self.model = model
        self.processor = feature_extractor
        self.processor.match(model.config)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Load recordings, cut them into chunks, and compute their spectrograms.

        Args:
            inputs: Each a path, URL, bytes of an audio file, waveform at the model's rate, {"array" or "raw",
                "sampling_rate"}, {"bytes" or "path"}, torchcodec decoder, or any of these as {"audio": ...}.
            prompt: Has no meaning for recordings.
            kwargs: Likewise.

        Returns:
            {"chunks": those of all recordings, as `RecordingChunk`}.

        Raises:
            ValueError: A recording cannot be decoded, is empty, or has samples that are not finite.
            OSError: A file is missing or cannot be read.
        """
        chunks = []
        for number, source in enumerate(inputs):
            is_named = isinstance(source, dict) and source.keys() == {"audio"}
            recording = open_recording(source["audio"] if is_named else source)
            blocks = read_samples(recording, self.processor.sampling_rate)
            for chunk in split_chunks(blocks, self.processor):
                (spectrogram,) = self.processor.spectrograms([chunk.waveform])
                chunks.append(RecordingChunk(number, recording.name, spectrogram, chunk.first, chunk.stop))
        return {"chunks": chunks}

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Add the recordings' embeddings to `features` of `preprocess`, as "sentence_embedding", (recording, D)."""
        summaries: dict[int, list[torch.Tensor]] = defaultdict(list)  # by the recording
        num_frames: dict[int, list[int]] = defaultdict(list)
        names: dict[int, str] = {}
        for batch in self._batches(features["chunks"]):
            for chunk, summary in zip(batch, self._summaries(batch), strict=True):
                summaries[chunk.recording].append(summary)
                num_frames[chunk.recording].append(chunk.stop - chunk.first)
                names[chunk.recording] = chunk.name
        embeddings = []
        for number in sorted(summaries):
            counts = torch.tensor(num_frames[number], device=self.model.device)
            embedding = self.model.pooling.merge(torch.stack(summaries[number]), counts).float()
            check_embedding(embedding.detach().cpu().numpy(), names[number])
            embeddings.append(embedding)
        features["sentence_embedding"] = torch.stack(embeddings)
        return features

    def _batches(self, chunks: Sequence[RecordingChunk]) -> Iterator[list[RecordingChunk]]:
        """Chunks of like length, as many as may pass through the model at a time."""
        steps_at_once = SECONDS_AT_ONCE * self.processor.sampling_rate / self.processor.hop_length
        batch: list[RecordingChunk] = []
        for chunk in sorted(chunks, key=lambda chunk: len(chunk.spectrogram)):
            length = self.processor.max_length or len(chunk.spectrogram)
            if batch and length * (len(batch) + 1) > steps_at_once:
                yield batch
                batch = []
            batch.append(chunk)
        yield batch

    def _summaries(self, batch: Sequence[RecordingChunk]) -> torch.Tensor:
        """What the pooling keeps of chunks, (chunk, k, D)."""
        spectrograms = [chunk.spectrogram for chunk in batch]
        inputs = self.processor.pad({"input_features": spectrograms}, return_tensors="pt").to(self.model.device)
        outputs = self.model(**inputs)
        frames = outputs.last_hidden_state
        own_frames = span_mask([(chunk.first, chunk.stop) for chunk in batch], frames)
        return self.model.pooling.summarize(frames, outputs.pooler_output, own_frames)

    def get_embedding_dimension(self) -> int:
        """The dimension D of the embeddings."""
        return self.model.config.projection_dim

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the model and its feature extractor as a repository."""
        self.model.save_pretrained(output_path)
        self.processor.save_pretrained(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        *,
        backend: str = "torch",
        cache_folder: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> "AudioEmbeddingModule":
        """Load a repository, as sentence-transformers asks for it.

        Args:
            model_name_or_path: A folder, or a name on the Hub.
            backend: "torch".
            cache_folder: For what comes from the Hub.
            model_kwargs: Arguments of `AutoModel.from_pretrained`, such as {"dtype": torch.bfloat16}.
            processor_kwargs: Arguments of `AutoFeatureExtractor.from_pretrained`.
            config_kwargs: Fields of the configuration, such as {"fusion_layers": [2, 5]}.
            options: What both loaders take: `revision`, `token`, `trust_remote_code` and such.

        Raises:
            ValueError: The backend is another one, or the repository will not do.
        """
        if backend != "torch":
            raise ValueError(f'backend={backend!r} is not supported by this model: leave it out, for "torch".')
        options["cache_dir"] = cache_folder
        model = AutoModel.from_pretrained(
            model_name_or_path, **options, **(config_kwargs or {}), **(model_kwargs or {})
        )
        extractor = AutoFeatureExtractor.from_pretrained(model_name_or_path, **options, **(processor_kwargs or {}))
        return cls(model, extractor)
