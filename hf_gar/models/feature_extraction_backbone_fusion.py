"""BackboneFusion's feature extractor: that of a network of transformers, with what recordings of any length need."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import transformers
from transformers import SequenceFeatureExtractor

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import AudioError
from .audio_network import AudioNetwork  # noqa: F401
from .backbone_networks import NETWORKS  # noqa: F401
from .configuration_backbone_fusion import BackboneFusionConfig, split_type
from .configuration_fusion import MAX_WIDTH, Field, FusionConfig
from .feature_extraction_fusion import FusionFeatureExtractor
from .fusion import resolve_fusion_layers  # noqa: F401
from .log_mel import one_thread

# Of a recording in chunks, where the network takes any length: what a chunk is of, and its context on either side.
CHUNK_S = 30
CONTEXT_S = 5


class FrontEnd:
    """What a network's own feature extractor gives. A subclass is a kind of feature extractor.

    Args:
        extractor: The network's own.
    """

    steps = "mel frames"
    # Of the only length that the inputs have: in time steps, and in samples.
    max_length: int | None = None
    max_samples: int | None = None

    def __init__(self, extractor: SequenceFeatureExtractor):
        self.extractor = extractor

    @property
    def feature_size(self) -> int:
        """The size of a time step."""
        return self.extractor.feature_size

    @property
    def hop_length(self) -> int:
        """From one time step to the next, in samples."""
        return self.extractor.hop_length

    @property
    def window(self) -> int:
        """The samples that a time step is made of, as far as a recording has to have them."""
        return self.hop_length

    @property
    def first_centre(self) -> float:
        """Where the first time step has its centre, in samples: at the beginning, where spectrograms are padded."""
        return 0

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """The input (time, feature) for a waveform (samples,)."""
        raise NotImplementedError(f"{type(self).__name__} has to define __call__.")


class Waveform(FrontEnd):
    """A waveform, normalised to a mean of 0 and a variance of 1 where the network wants that."""

    steps = "samples"
    hop_length = 1

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        inputs = self.extractor(waveform, sampling_rate=self.extractor.sampling_rate, padding=False)
        return np.asarray(inputs["input_values"][0], np.float32).reshape(-1, 1)


class PairsOfMelFrames(FrontEnd):
    """Kaldi filter banks every 10 ms, two of them in a time step; an odd last one is dropped."""

    mel_hop, mel_window = 160, 400

    @property
    def feature_size(self) -> int:
        return self.extractor.num_mel_bins * self.extractor.stride

    @property
    def hop_length(self) -> int:
        return self.mel_hop * self.extractor.stride

    @property
    def window(self) -> int:
        return self.mel_window + self.mel_hop * (self.extractor.stride - 1)

    @property
    def first_centre(self) -> float:
        return self.window / 2

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        inputs = self.extractor(waveform, sampling_rate=self.extractor.sampling_rate, return_tensors="np")
        return np.asarray(inputs["input_features"][0], np.float32)[np.asarray(inputs["attention_mask"][0], bool)]


class ASTFilterBanks(FrontEnd):
    """Kaldi filter banks of one length."""

    @property
    def feature_size(self) -> int:
        return self.extractor.num_mel_bins

    @property
    def hop_length(self) -> int:
        return self.extractor.sampling_rate // 100

    @property
    def window(self) -> int:
        return self.extractor.sampling_rate // 40

    @property
    def first_centre(self) -> float:
        return self.window / 2

    @property
    def max_length(self) -> int:  # type: ignore[override]
        return self.extractor.max_length

    @property
    def max_samples(self) -> int:  # type: ignore[override]
        return (self.max_length - 1) * self.hop_length + self.window

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        inputs = self.extractor(waveform, sampling_rate=self.extractor.sampling_rate, return_tensors="np")
        return np.asarray(inputs["input_values"][0], np.float32)


class WhisperLogMel(FrontEnd):
    """Log-mel spectrograms of 30 seconds, silence included."""

    @property
    def max_length(self) -> int:  # type: ignore[override]
        return self.extractor.nb_max_frames

    @property
    def max_samples(self) -> int:  # type: ignore[override]
        return self.extractor.n_samples

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        inputs = self.extractor(waveform, sampling_rate=self.extractor.sampling_rate, return_tensors="np")
        return np.asarray(inputs["input_features"][0], np.float32).T


class ClapLogMel(FrontEnd):
    """Log-mel spectrograms of 10 seconds, which shorter clips fill by repeating."""

    @property
    def max_length(self) -> int:  # type: ignore[override]
        return self.extractor.nb_max_samples // self.hop_length + 1

    @property
    def max_samples(self) -> int:  # type: ignore[override]
        return self.extractor.nb_max_samples

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        inputs = self.extractor(waveform, sampling_rate=self.extractor.sampling_rate, return_tensors="np")
        return np.asarray(inputs["input_features"][0][0], np.float32)  # no clip is so long that the others differ


# By the name of a feature extractor's class.
FRONT_ENDS: dict[str, type[FrontEnd]] = {
    "ASTFeatureExtractor": ASTFilterBanks,
    "ClapFeatureExtractor": ClapLogMel,
    "DacFeatureExtractor": Waveform,
    "SeamlessM4TFeatureExtractor": PairsOfMelFrames,
    "Wav2Vec2FeatureExtractor": Waveform,
    "WhisperFeatureExtractor": WhisperLogMel,
}


def build_front_end(fields: Any) -> FrontEnd:
    """The front end that the fields of a network's own feature extractor tell.

    Raises:
        ValueError: They are none of a feature extractor in `FRONT_ENDS`.
    """
    name, fields = split_type("backbone_feature_extractor", fields, "feature_extractor_type", FRONT_ENDS)
    try:
        front_end = FRONT_ENDS[name](getattr(transformers, name)(**fields))
        Field(1, MAX_WIDTH).check("feature_size", front_end.feature_size)
    except Exception as error:  # of damaged fields, that may be anything
        raise ValueError(f"backbone_feature_extractor is not a {name}: {error}") from error
    return front_end


class BackboneFusionFeatureExtractor(FusionFeatureExtractor):
    """The inputs of a network of transformers, as its own feature extractor makes them of each clip alone.

    Where the network takes inputs of one length only, `spectrograms` gives inputs of that length: each network's own
    feature extractor fills them in its way, with silence or by repeating a clip.

    Args:
        backbone_feature_extractor: The fields of the network's own feature extractor, with its
            `feature_extractor_type`; by default those of Wav2Vec2's.
        frame_window: The time steps of an input that a frame embedding is made of.
        frame_hop: The time steps from one frame embedding to the next.
    """

    model_type = BackboneFusionConfig.model_type
    checked_fields = FusionFeatureExtractor.checked_fields | {
        "feature_size": Field(1, MAX_WIDTH),
        "frame_window": Field(1, 1_000_000, is_whole=False),
        "frame_hop": Field(1, 1_000_000, is_whole=False),
    }

    def __init__(
        self,
        backbone_feature_extractor: dict[str, Any] | None = None,
        frame_window: float = 400,
        frame_hop: float = 320,
        **kwargs,
    ):
        fields = backbone_feature_extractor or {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}
        self._front_end = front_end = build_front_end(fields)
        derived = {
            "feature_size": front_end.feature_size,
            "sampling_rate": front_end.extractor.sampling_rate,
            "padding_value": front_end.extractor.padding_value,
        }
        for name, value in derived.items():
            if kwargs.setdefault(name, value) != value:
                raise ValueError(f"{name} has to be the network's own, {value}, not {kwargs[name]}.")
        super().__init__(**kwargs)
        self.backbone_feature_extractor = copy.deepcopy(fields)
        self.frame_window = frame_window
        self.frame_hop = frame_hop

    def to_dict(self) -> dict[str, Any]:
        fields = super().to_dict()
        del fields["_front_end"]
        return fields

    @property
    def steps(self) -> str:  # type: ignore[override]
        return self._front_end.steps

    @property
    def hop_length(self) -> int:  # type: ignore[override]
        return self._front_end.hop_length

    @property
    def max_length(self) -> int | None:  # type: ignore[override]
        return self._front_end.max_length

    @property
    def max_samples(self) -> int | None:
        return self._front_end.max_samples

    @property
    def frame_samples(self) -> int:
        return round(self.frame_hop * self.hop_length)

    @property
    def minimum_samples(self) -> int:
        # Where inputs have one length, its own feature extractor takes any clip that makes a time step.
        steps = 1 if self.max_length is not None else self.frame_window
        return math.ceil((steps - 1) * self.hop_length) + self._front_end.window

    @property
    def first_frame_centre(self) -> float:
        return self._front_end.first_centre + (self.frame_window - 1) / 2 * self.hop_length

    @property
    def chunk_frames(self) -> int:
        if self.max_samples is not None:
            return self.num_frames(self.max_samples)
        return round(CHUNK_S * self.sampling_rate / self.frame_samples)

    @property
    def chunk_context_frames(self) -> int:  # type: ignore[override]
        return 0 if self.max_samples is not None else round(CONTEXT_S * self.sampling_rate / self.frame_samples)

    @property
    def chunk_tail(self) -> int:
        if self.max_samples is not None:
            return self.max_samples - self.chunk_frames * self.frame_samples
        return self.minimum_samples - self.frame_samples

    def num_frames(self, num_samples: int) -> int:
        window = math.ceil((self.frame_window - 1) * self.hop_length) + self._front_end.window
        return max(0, num_samples - window) // self.frame_samples + 1

    def match(self, config: FusionConfig) -> None:
        super().match(config)
        network = config.audio_network
        pairs = {
            "frame_window": (self.frame_window, network.frame_window),
            "frame_hop": (self.frame_hop, network.frame_hop),
            "max_length": (self.max_length, config.input_length),
        }
        for name, (ours, models) in pairs.items():
            if ours != models:
                raise ValueError(
                    f"The feature extractor has {name}={ours}, but its model takes {models}. Load both from the same "
                    "repository."
                )

    def inputs(self, waveforms: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
        inputs = super().inputs(waveforms)
        if self.max_length is not None:
            for waveform in waveforms:
                self._require_short(waveform)
            steps = np.arange(self.max_length)
            inputs["attention_mask"] = [steps < self._own_steps(len(waveform)) for waveform in waveforms]
        return inputs

    def spectrograms(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        with one_thread():
            return [self._spectrogram(waveform) for waveform in waveforms]

    def _spectrogram(self, waveform: np.ndarray) -> np.ndarray:
        self._require_short(waveform)
        return self._front_end(np.pad(waveform, (0, max(0, self.minimum_samples - len(waveform)))))

    def _require_short(self, waveform: np.ndarray) -> None:
        """Raise an AudioError where a waveform is longer than the network takes."""
        if self.max_samples is not None and len(waveform) > self.max_samples:
            raise AudioError(
                f"A clip has {len(waveform)} samples, more than the {self.max_samples} that the network takes "
                f"({self.max_samples / self.sampling_rate:g} s). Embed it with the pipeline or hf_gar, which cut long "
                "recordings into chunks."
            )

    def _own_steps(self, num_samples: int) -> int:
        """The time steps of an input of the network's only length that hold a clip's frame embeddings."""
        return math.ceil(self.frame_window + (self.num_frames(num_samples) - 1) * self.frame_hop)
