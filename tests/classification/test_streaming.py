"""Labels as they happen: those that the pipeline gives of a recording's windows."""

import numpy as np
import pytest
from transformers import pipeline

from hf_gar import FusionAudioClassificationPipeline, StreamingTagger
from tests.conftest import tone


@pytest.mark.parametrize("options", [{}, {"window_s": 3, "hop_s": 0.7}])
@pytest.mark.parametrize("seconds", [0.5, 2, 7.3])
def test_windows_have_the_pipelines_labels(classifier, extractor, options, seconds):
    waveform = tone(seconds)
    classify = pipeline(
        "audio-classification",
        model=classifier,
        feature_extractor=extractor,
        pipeline_class=FusionAudioClassificationPipeline,
        device="cpu",
    )
    expected = classify(waveform, timestamps=True, **options)
    tagger = StreamingTagger(classifier, extractor, **options)
    for _ in range(2):  # one stream after the other
        found = [
            window for start in range(0, len(waveform), 700) for window in tagger.push(waveform[start : start + 700])
        ]
        found += tagger.finish()
        assert [(window.start, window.stop) for window in found] == [window["timestamp"] for window in expected]
        for window, other in zip(found, expected, strict=True):
            scores = {each["label"]: each["score"] for each in other["labels"]}
            assert [each["label"] for each in window.predictions] == list(scores)
            np.testing.assert_allclose([each["score"] for each in window.predictions], list(scores.values()), atol=1e-5)


def test_a_window_is_out_when_it_is_over(classifier, extractor):
    tagger = StreamingTagger(classifier, extractor, labels=["rain"], threshold=0)
    assert tagger.push(tone(2)[:-1]) == []
    (window,) = tagger.push(tone(2)[-1:])
    assert (window.start, window.stop) == (0, 2)
    assert [each["label"] for each in window.predictions] == ["rain"]
