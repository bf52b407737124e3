"""What is changed at random in recordings."""

import numpy as np
import pytest
import torch

from hf_gar.training.augmentation import Augmentation
from tests.conftest import tone


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_the_gain_is_in_decibels():
    wave = tone(1)
    levels = [20 * np.log10(Augmentation(gain_db=6).vary_gain(wave).std() / wave.std()) for _ in range(300)]
    assert min(levels) == pytest.approx(-6, abs=0.2)
    assert max(levels) == pytest.approx(6, abs=0.2)
    assert np.mean(levels) == pytest.approx(0, abs=0.6)
    np.testing.assert_allclose(Augmentation(gain_db=0).vary_gain(wave), wave)


def test_a_mixture_has_the_labels_of_its_parts():
    one, other = tone(1), tone(0.5, seed=1)
    target, other_target = np.eye(3, dtype=np.float32)[[0, 2]]
    parts = []
    for _ in range(200):
        mixed, labels = Augmentation(mixing=1).mix(one, target, lambda: (other, other_target))
        part, rest = labels[0], labels[2]
        assert (part + rest, labels[1]) == (pytest.approx(1), 0)
        padded = np.pad(other, (0, len(one) - len(other)))
        np.testing.assert_allclose(mixed, part * one + rest * padded, atol=1e-6)
        parts.append(part)
    assert 0.4 < np.mean(parts) < 0.6
    assert 0.1 < np.mean([0.2 < part < 0.8 for part in parts]) < 0.6  # of Beta(0.3, 0.3): 0.31
    untouched, labels = Augmentation(mixing=0).mix(one, target, lambda: (other, other_target))
    assert untouched is one
    assert labels is target
    share = np.mean([Augmentation(mixing=0.25).mix(one, target, lambda: (other, target))[0] is one for _ in range(400)])
    assert share == pytest.approx(0.75, abs=0.08)


def test_bands_and_spans_are_masked_by_the_mean():
    spectrogram = np.random.default_rng(0).normal(-40, 10, size=(500, 64)).astype(np.float32)
    settings = Augmentation(masks=2, masked_frequencies=0.125, masked_time=0.1)
    bands, spans = [], []
    for _ in range(100):
        masked = settings.mask(spectrogram)
        assert (masked.shape, masked.dtype) == (spectrogram.shape, np.float32)
        changed = np.abs(masked - spectrogram) > 1e-3
        np.testing.assert_allclose(masked[changed], spectrogram.mean(), rtol=1e-4)
        bands.append(int((changed.mean(0) > 0.99).sum()))
        spans.append(int((changed.mean(1) > 0.99).sum()))
    assert 8 < max(bands) <= 2 * 8  # two of up to 8 of 64
    assert 50 < max(spans) <= 2 * 50
    assert min(bands) <= 1
    np.testing.assert_allclose(Augmentation(masks=0).mask(spectrogram), spectrogram, atol=1e-4)
