"""The front ends against librosa's, torchaudio's and transformers' own."""

import librosa
import numpy as np
import pytest
import torch
import torchaudio

from hf_gar.audio import load_audio
from hf_gar.models import Cnn14FusionFeatureExtractor, log_mel
from hf_gar.models.log_mel import slaney_mel_filters
from tests.conftest import real_folder, relative_error

CNN14_RATES = {
    16000: {},
    32000: {"sampling_rate": 32000, "n_fft": 1024, "hop_length": 320, "frequency_max": 14000.0},
}


def real_clips(rate: int, count: int = 10) -> list[np.ndarray]:
    paths = sorted((real_folder("esc10") / "audio").glob("*.ogg"))
    return [load_audio(path, rate) for path in paths[:: len(paths) // count][:count]]


def decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, 1e-10))


@pytest.mark.parametrize("rate", CNN14_RATES)
def test_cnn14_front_end_is_librosas_and_torchaudios(rate):
    extractor = Cnn14FusionFeatureExtractor(**CNN14_RATES[rate])
    settings = {"n_fft": extractor.n_fft, "hop_length": extractor.hop_length, "n_mels": 64}
    bounds = {"fmin": extractor.frequency_min, "fmax": extractor.frequency_max}
    torchaudios = torchaudio.transforms.MelSpectrogram(
        rate, **settings, f_min=bounds["fmin"], f_max=bounds["fmax"], norm="slaney", mel_scale="slaney"
    )
    clips = real_clips(rate)
    batch = extractor(clips, sampling_rate=rate, return_tensors="np")
    worst = {"librosa": 0.0, "torchaudio": 0.0}
    for clip, features, mask in zip(clips, batch["input_features"], batch["attention_mask"], strict=True):
        ours = features[mask.astype(bool)]
        librosas = librosa.feature.melspectrogram(y=clip, sr=rate, **settings, **bounds, pad_mode="reflect").T
        worst["librosa"] = max(worst["librosa"], relative_error(ours, decibels(librosas)))
        theirs = torchaudios(torch.from_numpy(clip)).T.numpy()
        worst["torchaudio"] = max(worst["torchaudio"], relative_error(ours, decibels(theirs)))
    print(f"CNN14 front end at {rate} Hz, {len(clips)} real clips, largest relative difference: {worst}")
    assert max(worst.values()) < 1e-4


@pytest.mark.parametrize("rate", CNN14_RATES)
def test_slaney_filters_are_librosas(rate):
    extractor = Cnn14FusionFeatureExtractor(**CNN14_RATES[rate])
    ours = slaney_mel_filters(rate, extractor.n_fft, 64, extractor.frequency_min, extractor.frequency_max)
    theirs = librosa.filters.mel(
        sr=rate, n_fft=extractor.n_fft, n_mels=64, fmin=extractor.frequency_min, fmax=extractor.frequency_max
    )
    assert relative_error(ours, theirs.T) < 1e-6


def test_a_long_recording_is_transformed_in_pieces_without_a_seam(monkeypatch):
    waveform = np.random.default_rng(0).normal(size=160 * 300).astype(np.float32) * 0.1
    extractor = Cnn14FusionFeatureExtractor()
    whole = extractor([waveform, waveform], sampling_rate=16000, return_tensors="np")["input_features"]
    monkeypatch.setattr(log_mel, "FRAMES_AT_ONCE", 64)
    pieces = extractor([waveform, waveform], sampling_rate=16000, return_tensors="np")["input_features"]
    assert relative_error(pieces, whole) < 1e-6
