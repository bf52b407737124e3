"""The `AudioProcessor` that is to succeed feature extractors (transformers' pull requests 44394, 48113 and 48115)."""

import numpy as np
import pytest
import transformers
from transformers import SequenceFeatureExtractor, audio_utils

from hf_gar.models import log_mel
from tests.conftest import tone

# What pull request 48115 takes out of transformers.audio_utils.
TO_GO = ("amplitude_to_db_batch", "mel_filter_bank", "power_to_db_batch", "spectrogram", "spectrogram_batch")
TO_DO = """transformers has its AudioProcessor now. What to do here:
1. Run tests/models and tests/hub/test_remote_code.py. Our feature extractors have a `__call__` and `pad` of their own,
   and log_mel.py has its own filters, so that they should pass, but for those of transformers' own networks.
2. Where `SequenceFeatureExtractor` warns or is gone, derive `FusionFeatureExtractor` from what succeeds it, and from
   `SequenceFeatureExtractor` in a `try:` block for older versions.
3. Name the class as "AutoAudioProcessor" in the repositories' auto_map, too, beside "AutoFeatureExtractor", and in
   `hf_gar.register`. Load with either in module_audio_embedding.py.
4. Look at the feature extractors in feature_extraction_backbone_fusion.py: transformers keeps their names as aliases.
5. Make this test say that it has landed: remove it, and add the version to scripts/compatibility.sh."""


def test_it_has_not_landed():
    assert not hasattr(transformers, "AutoAudioProcessor"), TO_DO
    assert hasattr(audio_utils, "mel_filter_bank"), TO_DO


def test_nothing_leans_on_what_goes_away(extractor, monkeypatch):
    if extractor.model_type == "backbone-fusion":
        pytest.skip("its front end is transformers' own")
    clips = [tone(1), tone(2, seed=1)]
    expected = extractor(clips, sampling_rate=16000, return_tensors="np")
    for name in TO_GO:
        monkeypatch.delattr(audio_utils, name, raising=False)
    for name in ("pad", "_pad", "_truncate"):  # which will pad waveforms
        monkeypatch.delattr(SequenceFeatureExtractor, name, raising=False)
    log_mel.slaney_mel_filters.cache_clear()
    log_mel.htk_mel_filters.cache_clear()
    found = extractor(clips, sampling_rate=16000, return_tensors="np")
    for name, array in expected.items():
        assert np.array_equal(found[name], array)
