"""CNN14's official checkpoints (Kong et al., "PANNs", 2020)."""

from pathlib import Path
from typing import Any

import torch

from hf_gar.checkpoints.converted import ConvertedCheckpoint, ConvertedClassifier
from hf_gar.checkpoints.reading import read_state_dict, rename_weights
from hf_gar.errors import HfGarError
from hf_gar.models.feature_extraction_cnn14_fusion import Cnn14FusionFeatureExtractor
from hf_gar.models.log_mel import slaney_mel_filters

# By the length of the Fourier transform, which tells the published networks apart: their feature extractors' arguments.
FRONT_ENDS: dict[int, dict[str, Any]] = {
    512: {"sampling_rate": 16000, "n_fft": 512, "win_length": 512, "hop_length": 160, "frequency_max": 8000.0},
    1024: {"sampling_rate": 32000, "n_fft": 1024, "win_length": 1024, "hop_length": 320, "frequency_max": 14000.0},
}
MEL_FILTERS = "logmel_extractor.melW"
STFT = "spectrogram_extractor.stft.conv_real.weight"
# The front end, which we compute.
IGNORED = ("spectrogram_extractor.", "logmel_extractor.")
CLASSIFIER = "fc_audioset"
MEL_TOLERANCE = 1e-5


def _names() -> dict[str, str]:
    batch_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {f"bn0.{leaf}": f"bn0.{leaf}" for leaf in batch_norm}
    for block in range(1, 7):
        for index in (1, 2):
            leaves = [f"conv{index}.weight", *(f"bn{index}.{leaf}" for leaf in batch_norm)]
            names |= {f"conv_block{block}.{leaf}": f"blocks.{block - 1}.{leaf}" for leaf in leaves}
    return names | {"fc1.weight": "fc1.weight", "fc1.bias": "fc1.bias"}


def convert_cnn14(path: Path) -> ConvertedCheckpoint:
    """Read an official CNN14 file, of the 16 kHz or the 32 kHz network.

    Raises:
        HfGarError: It is another file, a weight is missing or unexpected, or it was trained with another front end.
    """
    checkpoint = read_state_dict(path, entry="model")
    names = _names()
    if any(key.startswith(f"{CLASSIFIER}.") for key in checkpoint):
        names |= {f"{CLASSIFIER}.{leaf}": leaf for leaf in ("weight", "bias")}
    state_dict = rename_weights(checkpoint, names, IGNORED, path, "CNN14")
    classifier = None
    if "weight" in state_dict:
        classifier = ConvertedClassifier(state_dict.pop("weight"), state_dict.pop("bias"))
    front_end = _front_end(checkpoint, path)
    return ConvertedCheckpoint(
        state_dict=state_dict,
        config={"sampling_rate": front_end["sampling_rate"], "hop_length": front_end["hop_length"]},
        feature_extractor=front_end,
        classifier=classifier,
    )


def _front_end(checkpoint: dict[str, torch.Tensor], path: Path) -> dict[str, Any]:
    if STFT not in checkpoint:
        raise HfGarError(f"{path} lacks {STFT}, which tells the 16 kHz network from the 32 kHz one.")
    n_fft = checkpoint[STFT].shape[-1]
    if n_fft not in FRONT_ENDS:
        raise HfGarError(
            f"{path} is a CNN14 with a Fourier transform of {n_fft} samples; supported are the 16 kHz network (512) "
            "and the 32 kHz network (1024)."
        )
    front_end = FRONT_ENDS[n_fft]
    theirs = checkpoint.get(MEL_FILTERS)
    # Mel filters have no negative value: where there is one, the file holds something else in their place.
    if theirs is not None and (theirs >= 0).all():
        ours = slaney_mel_filters(Cnn14FusionFeatureExtractor(**front_end).front_end)
        if theirs.shape != ours.shape or (theirs - ours).abs().max() > MEL_TOLERANCE * ours.max():
            raise HfGarError(
                f"{path} was trained with other mel filters ({MEL_FILTERS}) than CNN14 at "
                f"{front_end['sampling_rate']} Hz: its embeddings would be wrong. Get the official file."
            )
    return front_end
