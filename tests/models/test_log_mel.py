"""The front ends against librosa's, torchaudio's and transformers' own."""

import librosa
import numpy as np
import pytest
import torch
import torchaudio
import transformers

from hf_gar import ASTFusionFeatureExtractor, Cnn14FusionFeatureExtractor, VGGishFusionFeatureExtractor
from hf_gar.audio import load_audio
from hf_gar.models import log_mel
from hf_gar.models.log_mel import htk_mel_filters, slaney_mel_filters
from tests.conftest import real_folder, relative_error, tone

CNN14_RATES = {
    16000: {},
    32000: {"sampling_rate": 32000, "n_fft": 1024, "win_length": 1024, "hop_length": 320, "frequency_max": 14000.0},
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
    ours = slaney_mel_filters(extractor.front_end)
    theirs = librosa.filters.mel(
        sr=rate, n_fft=extractor.n_fft, n_mels=64, fmin=extractor.frequency_min, fmax=extractor.frequency_max
    )
    assert relative_error(ours, theirs.T) < 1e-6


def test_ast_front_end_is_torchaudios_kaldi_filter_bank():
    extractor = ASTFusionFeatureExtractor(mean=0.0, std=0.5)  # which leaves the filter banks as they are
    clips = real_clips(16000, 50)
    worst = 0.0
    for clip, ours in zip(clips, extractor.spectrograms(clips), strict=True):
        theirs = torchaudio.compliance.kaldi.fbank(
            torch.from_numpy(clip - clip.mean())[None],
            htk_compat=True,
            sample_frequency=16000,
            use_energy=False,
            window_type="hanning",
            num_mel_bins=128,
            dither=0.0,
            frame_shift=10,
        )
        worst = max(worst, relative_error(ours, theirs))
    print(f"AST front end, {len(clips)} real clips, largest relative difference to torchaudio's: {worst:.1e}")
    assert worst < 1e-4


def test_ast_features_are_normalized_and_padded_as_transformers_does():
    stock = transformers.ASTFeatureExtractor()
    clips = [tone(5), tone(12, seed=1)[: 16000 * 10]]
    theirs = stock([clip - clip.mean() for clip in clips], sampling_rate=16000, return_tensors="np")["input_values"]
    ours = ASTFusionFeatureExtractor()(clips, sampling_rate=16000, return_tensors="np")["input_features"]
    assert relative_error(ours, theirs) < 1e-4


def test_vggish_front_end_is_written_out():
    """Against librosa's frames and NumPy's transform in double precision, with torchaudio's HTK filters."""
    extractor = VGGishFusionFeatureExtractor()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for clip in real_clips(16000, 5):
        frames = librosa.util.frame(clip.astype(np.float64), frame_length=400, hop_length=160, axis=0)
        magnitudes = np.abs(np.fft.rfft(frames * window, 512))
        expected = np.log(magnitudes @ triangles_in_mel(16000, 512, 64, 125.0, 7500.0) + 0.01)
        found = extractor(clip, sampling_rate=16000, return_tensors="np")["input_features"][0]
        assert relative_error(found, expected) < 1e-4


def triangles_in_mel(rate, n_fft, bins, low, high):
    """The definition: triangles whose corners are equally spaced on the mel scale, straight on that scale."""
    mel = 1127 * np.log1p(np.fft.rfftfreq(n_fft, 1 / rate) / 700)
    corners = np.linspace(1127 * np.log1p(low / 700), 1127 * np.log1p(high / 700), bins + 2)
    rising = (mel[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - mel[:, None]) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def test_htk_filters_are_torchaudios_kaldi_filters():
    """Kaldi's triangles are straight on the mel scale as VGGish's are.

    torchaudio computes them in float32 and without the bin at half the rate.
    """
    for extractor in (VGGishFusionFeatureExtractor(), ASTFusionFeatureExtractor()):
        bins, low, high = extractor.feature_size, extractor.frequency_min, extractor.frequency_max
        ours = htk_mel_filters(extractor.front_end)
        theirs, _ = torchaudio.compliance.kaldi.get_mel_banks(bins, 512, 16000.0, low, high, 100.0, -500.0, 1.0)
        assert relative_error(ours[:256].T, theirs) < 1e-4
        assert relative_error(ours, triangles_in_mel(16000, 512, bins, low, high)) < 1e-6


def test_htk_filters_have_torchaudios_htk_corners():
    """torchaudio's `melscale_fbanks` draws its HTK triangles straight in Hz: the same corners, other slopes."""
    ours = htk_mel_filters(VGGishFusionFeatureExtractor().front_end)
    theirs = torchaudio.functional.melscale_fbanks(257, 125.0, 7500.0, 64, 16000, norm=None, mel_scale="htk")
    inside = theirs > 1e-3
    assert torch.equal(ours[inside] > 0, torch.ones(int(inside.sum()), dtype=torch.bool))
    assert (ours - theirs).abs().max() < 0.05
    assert not ours[0].any()


def test_a_long_recording_is_transformed_in_pieces_without_a_seam(monkeypatch):
    waveform = np.random.default_rng(0).normal(size=160 * 300).astype(np.float32) * 0.1
    extractor = Cnn14FusionFeatureExtractor()
    whole = extractor([waveform, waveform], sampling_rate=16000, return_tensors="np")["input_features"]
    monkeypatch.setattr(log_mel, "FRAMES_AT_ONCE", 64)
    pieces = extractor([waveform, waveform], sampling_rate=16000, return_tensors="np")["input_features"]
    assert relative_error(pieces, whole) < 1e-6
