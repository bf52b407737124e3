"""The pipeline "audio-classification": any recording in, labels out, for the whole of it or over time."""

import itertools
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
import torch
import transformers
from transformers import pipeline

from hf_gar import AudioEmbeddingPipeline, AudioError, FusionAudioClassificationPipeline
from hf_gar.models.chunks import split_windows
from tests.conftest import LABELS, build_tiny_classifier, build_tiny_extractor, relative_error, tone


def build(model, extractor, pipeline_class=FusionAudioClassificationPipeline, **options):
    return pipeline(
        "audio-classification",
        model=model,
        feature_extractor=extractor,
        pipeline_class=pipeline_class,
        device="cpu",
        **options,
    )


@pytest.fixture(scope="module")
def classify(classifier, extractor):
    return build(classifier, extractor)


def logits_of(labels) -> np.ndarray:
    """The scores in the order of the model's labels."""
    scores = {each["label"]: each["score"] for each in labels}
    return np.array([scores[label] for label in LABELS])


def test_labels_and_scores_best_first(classify, classifier, extractor):
    with torch.no_grad():
        logits = classifier(**extractor(tone(2), sampling_rate=16000, return_tensors="pt")).logits[0]
    labels = classify(tone(2))
    assert [each["label"] for each in labels] == [LABELS[index] for index in logits.argsort(descending=True)]
    assert relative_error(logits_of(labels), logits.softmax(0)) < 1e-5
    assert relative_error(logits_of(classify(tone(2), function_to_apply="sigmoid")), logits.sigmoid()) < 1e-5
    assert relative_error(logits_of(classify(tone(2), function_to_apply="none")), logits) < 1e-5
    assert classify(tone(2), top_k=2) == labels[:2]
    assert classify(tone(2), top_k=100) == classify(tone(2), top_k=None) == labels


def test_the_best_five_by_default():
    names = [str(index) for index in range(9)]
    classify = build(build_tiny_classifier("cnn14-fusion", names), build_tiny_extractor("cnn14-fusion"))
    assert len(classify(tone(1))) == 5
    assert len(classify(tone(1), top_k=None)) == 9
    best = build(build_tiny_classifier("cnn14-fusion", names), build_tiny_extractor("cnn14-fusion"), top_k=1)
    assert best(tone(1)) == classify(tone(1))[:1]


def test_several_labels_have_a_score_each():
    model = build_tiny_classifier("cnn14-fusion", problem_type="multi_label_classification")
    classify = build(model, build_tiny_extractor("cnn14-fusion"))
    assert (
        classify(tone(1))
        == classify(tone(1), function_to_apply="sigmoid")
        != classify(tone(1), function_to_apply="softmax")
    )


def test_a_recording_that_is_unlike_all_labels_is_unknown(model_type, extractor):
    model = build_tiny_classifier(model_type)
    usual = build(model, extractor)(tone(2))
    best = usual[0]["score"]
    model.config.rejection_threshold = (1 + best) / 2
    classify = build(model, extractor)
    (unknown,) = classify(tone(2))
    assert unknown["label"] == "unknown"
    assert unknown["score"] == pytest.approx(1 - best)
    assert [window["labels"] for window in classify(tone(2), timestamps=True)] == [[unknown]]
    assert classify(tone(2), top_k=None) == [unknown]
    # Another threshold for a call, and none.
    assert classify(tone(2), rejection_threshold=best / 2) == classify(tone(2), rejection_threshold=0) == usual
    # Other scores than probabilities of which one is a label's are never rejected.
    for function in ("none", "sigmoid"):
        assert len(classify(tone(2), function_to_apply=function)) == len(LABELS)
    model.config.rejection_threshold = best / 2
    assert build(model, extractor)(tone(2)) == usual
    assert build(model, extractor)(tone(2), rejection_threshold=1)[0]["label"] == "unknown"


def test_a_long_recording_has_the_labels_of_its_embedding(model, classifier, extractor, classify):
    recording = tone(65)
    embed = pipeline(
        "feature-extraction", model=model, feature_extractor=extractor, pipeline_class=AudioEmbeddingPipeline
    )
    with torch.no_grad():
        expected = classifier.classify(embed(recording, return_tensors=True)[None])[0]
    for batch_size in (1, 3):
        found = logits_of(classify(recording, function_to_apply="none", batch_size=batch_size))
        assert relative_error(found, expected) < 1e-5


def test_whatever_the_embedding_pipeline_takes(classify, tmp_path):
    paths = []
    for number in range(3):
        paths.append(str(tmp_path / f"{number}.wav"))
        soundfile.write(paths[-1], np.stack([tone(1, seed=number)] * 2, axis=1), 16000, subtype="FLOAT")
    expected = [logits_of(classify(tone(1, seed=number))) for number in range(3)]
    content = Path(paths[0]).read_bytes()
    for source in (paths[0], content, {"bytes": content}, {"path": paths[0]}, {"raw": tone(1), "sampling_rate": 16000}):
        assert relative_error(logits_of(classify(source)), expected[0]) < 1e-5
    dataset = datasets.Dataset.from_dict({"audio": paths}).cast_column("audio", datasets.Audio())
    several = {
        "list": classify(paths),
        "tuple": classify(tuple(paths)),
        "generator": list(classify(path for path in paths)),
        "column": classify(dataset.cast_column("audio", datasets.Audio(decode=False))["audio"]),
        "dataset": list(classify(dataset)),
        "in batches": classify(paths, batch_size=2),
    }
    for kind, found in several.items():
        assert relative_error([logits_of(labels) for labels in found], expected) < 1e-5, kind
    assert classify([]) == []


def test_another_rate_is_resampled(classify, tmp_path):
    time = np.arange(48000) / 48000
    wave = 0.4 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.flac", wave, 48000)
    found = logits_of(classify(str(tmp_path / "a.flac"), function_to_apply="none"))
    expected = logits_of(classify(wave[::3].copy(), function_to_apply="none"))
    assert relative_error(found, expected) < 0.01


# Over time


@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_window_is_classified_as_if_it_were_a_clip(classify, batch_size):
    recording = np.concatenate([tone(3), tone(2.5, seed=1)])
    windows = classify(
        recording, timestamps=True, window_s=2, hop_s=1.5, top_k=None, function_to_apply="none", batch_size=batch_size
    )
    assert [window["timestamp"] for window in windows] == [(0, 2), (1.5, 3.5), (3, 5), (3.5, 5.5)]
    for window in windows:
        start, end = (round(16000 * second) for second in window["timestamp"])
        expected = logits_of(classify(recording[start:end], function_to_apply="none"))
        assert relative_error(logits_of(window["labels"]), expected) < 1e-5


def test_windows_of_several_recordings(classify):
    recordings = [tone(1), tone(4, seed=1), tone(2, seed=2)]
    options = {"timestamps": True, "top_k": 1}
    assert [len(windows) for windows in classify(recordings, **options)] == [1, 3, 1]
    alone = [classify(recording, **options) for recording in recordings]
    for found, expected in zip(classify(recordings, batch_size=3, **options), alone, strict=True):
        assert [window["timestamp"] for window in found] == [window["timestamp"] for window in expected]
        assert [window["labels"][0]["label"] for window in found] == [
            window["labels"][0]["label"] for window in expected
        ]


def test_a_window_longer_than_a_chunk(classifier, extractor):
    classify = build(classifier, extractor)
    recording = tone(100)
    (first, second) = classify(recording, timestamps=True, window_s=70, hop_s=70, function_to_apply="none")
    assert (first["timestamp"], second["timestamp"]) == ((0, 70), (30, 100))
    expected = classify(recording[30 * 16000 :], function_to_apply="none")
    assert relative_error(logits_of(second["labels"]), logits_of(expected)) < 1e-5


def test_a_recording_shorter_than_a_window_is_one(classify):
    (window,) = classify(tone(1.5), timestamps=True, window_s=10)
    assert window == {"timestamp": (0.0, 1.5), "labels": classify(tone(1.5))}
    (window,) = classify(tone(0.01), timestamps=True)  # padded, as such a clip is
    assert window == {"timestamp": (0.0, 0.01), "labels": classify(tone(0.01))}


@pytest.mark.parametrize(("length", "hop"), [(1, 1), (5, 1), (5, 2), (5, 5), (40, 7)])
@pytest.mark.parametrize("block", [1, 3, 8, 100])
def test_windows_cover_a_recording_whatever_its_blocks(length, hop, block):
    for size in range(1, 60):
        samples = np.arange(size, dtype=np.float32)
        blocks = iter(np.array_split(samples, range(block, size, block)))
        windows = list(split_windows(blocks, length, hop))
        assert all(np.array_equal(waveform, samples[start : start + len(waveform)]) for start, waveform in windows)
        assert {len(waveform) for _, waveform in windows} == {min(length, size)}
        starts = [start for start, _ in windows]
        assert starts[:-1] == [hop * index for index in range(len(starts) - 1)]
        assert starts[-1] + len(windows[-1][1]) == size
        assert all(0 < after - before <= hop for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_s": 0.01}, r"window_s=0\.01 is shorter than the [\d.]+ s that \w+FusionForAudioClassification takes"),
        ({"window_s": float("nan")}, "window_s=nan is shorter than"),
        ({"window_s": 2, "hop_s": 3}, "hop_s=3 has to be above 0 and at most window_s=2"),
        ({"hop_s": 0}, r"hop_s=0 has to be above 0 and at most window_s=2\.0"),
        ({"hop_s": -1}, "hop_s=-1 has to be above 0"),
        ({"timestamps": False, "window_s": 1}, "window_s and hop_s need timestamps=True"),
        ({"timestamps": False, "hop_s": 1}, "window_s and hop_s need timestamps=True"),
        ({"top_k": 0}, "top_k has to be 1 or more, or None for all labels, not 0"),
        ({"top_k": 1.5}, "top_k has to be 1 or more"),
        ({"rejection_threshold": 1.5}, "rejection_threshold has to be from 0 to 1, or None for the model's, not 1.5"),
        ({"rejection_threshold": float("nan")}, "rejection_threshold has to be from 0 to 1"),
        ({"rejection_threshold": "high"}, "rejection_threshold has to be from 0 to 1"),
        ({"function_to_apply": "tanh"}, "function_to_apply has to be one of softmax, sigmoid, none, not 'tanh'"),
    ],
)
def test_wrong_options(classify, options, message):
    with pytest.raises(ValueError, match=message):
        classify(tone(3), **{"timestamps": True, **options})


def test_an_unknown_option_and_a_bad_recording_are_named(classify):
    with pytest.raises(TypeError, match=r"\['windows'\].*'window_s'"):
        classify(tone(1), windows=3)
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        classify("gone.wav")
    with pytest.raises(AudioError, match="is empty"):
        classify(np.zeros(0, np.float32), timestamps=True)


# transformers' own


def test_the_built_in_pipeline_works_too(classifier, extractor, classify):
    theirs = build(classifier, extractor, transformers.AudioClassificationPipeline)
    expected = classify(tone(2))
    for recording in (tone(2), {"raw": tone(2), "sampling_rate": 16000}):
        found = theirs(recording)
        assert [each["label"] for each in found] == [each["label"] for each in expected]
        assert relative_error(logits_of(found), logits_of(expected)) < 1e-5
    clips = [tone(2), tone(1, seed=1), tone(3, seed=2)]
    for found, one in zip(theirs(clips, batch_size=3), clips, strict=True):
        assert relative_error(logits_of(found), logits_of(classify(one))) < 1e-5


def test_bfloat16(classifier_repository, classify):
    half = pipeline(
        "audio-classification",
        model=str(classifier_repository),
        trust_remote_code=True,
        dtype=torch.bfloat16,
        device="cpu",
        function_to_apply="none",
    )
    assert half.model.dtype == torch.bfloat16
    found, expected = logits_of(half(tone(2))), logits_of(classify(tone(2), function_to_apply="none"))
    assert np.dot(found, expected) / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999
