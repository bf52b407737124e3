"""`AudioTagger` and `tag_dataset`, against the model itself and the pipeline."""

import json

import datasets
import numpy as np
import pytest
import torch
from datasets.fingerprint import Hasher
from transformers import pipeline

from hf_gar import AudioError, AudioTagger, FusionAudioClassificationPipeline, HfGarError, tag_dataset
from hf_gar.registry import MODELS
from tests.conftest import LABELS, build_tiny_classifier, build_tiny_extractor, save_tiny_classifier, tag_job, tone


@pytest.fixture(scope="module")
def classify(classifier, extractor):
    return pipeline(
        "audio-classification",
        model=classifier,
        feature_extractor=extractor,
        pipeline_class=FusionAudioClassificationPipeline,
        device="cpu",
    )


def assert_same_labels(found, expected, tolerance=1e-5):
    """The same labels in the same order, with the same scores."""
    assert [each["label"] for each in found] == [each["label"] for each in expected]
    np.testing.assert_allclose([each["score"] for each in found], [each["score"] for each in expected], atol=tolerance)


def scores_of(labels) -> dict[str, float]:
    return {each["label"]: each["score"] for each in labels}


def test_labels_are_the_pipelines(classifier, extractor, classify):
    clips = [tone(2), tone(0.3, seed=1), tone(65, seed=2)]  # a short one is padded, a long one cut into chunks
    for clip, tags in zip(clips, AudioTagger(classifier, extractor).tag(clips), strict=True):
        assert_same_labels(tags.predictions, classify(clip))
        assert tags.duration_s == pytest.approx(len(clip) / 16000)


def test_scores_alone_in_a_batch_and_through_a_job(classifier, classifier_repository, extractor, tmp_path):
    clips = [tone(seconds, seed=index) for index, seconds in enumerate([1, 2.5, 0.7, 3, 2])]
    with torch.no_grad():
        alone = [classifier(**extractor(clip, sampling_rate=16000, return_tensors="pt")).logits[0] for clip in clips]
        batch = classifier(**extractor(clips, sampling_rate=16000, return_tensors="pt")).logits
    rows = datasets.Dataset.from_dict({"audio": [{"array": clip, "sampling_rate": 16000} for clip in clips]})
    status = tag_job(rows, classifier_repository, tmp_path / "job")
    (path,) = status.output.glob("part-*")
    through_job = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))["predictions"]
    for one, of_batch, predictions in zip(alone, batch, through_job, strict=True):
        assert float((of_batch - one).abs().max() / one.abs().max()) < 1e-5
        scores = scores_of(predictions)
        np.testing.assert_allclose([scores[label] for label in LABELS], one.softmax(0), atol=1e-5)
        # A softmax hides differences: those of the logits are the scores' as well.
        logs = np.log([scores[label] for label in LABELS])
        differences = (one - one.max()).numpy()
        is_exact = differences > -50  # float32 holds the others less exactly
        np.testing.assert_allclose((logs - logs.max())[is_exact], differences[is_exact], atol=1e-5 * one.abs().max())


def test_the_best_the_chosen_and_those_above_a_threshold():
    names = [f"label {index}" for index in range(9)]
    model = build_tiny_classifier("cnn14-fusion", names, problem_type="multi_label_classification")
    extractor = build_tiny_extractor("cnn14-fusion")

    def predictions(**options):
        (tags,) = AudioTagger(model, extractor, **options).tag([tone(1)])
        return tags.predictions

    every = predictions(top_k=9)
    assert sum(each["score"] for each in every) > 1.5  # each label has a score of its own
    assert [each["score"] for each in every] == sorted((each["score"] for each in every), reverse=True)
    assert predictions() == every[:5]
    assert predictions(top_k=100) == every
    worst = [each["label"] for each in every[-6:]]
    assert predictions(labels=worst) == every[-6:]
    assert predictions(labels=worst[::-1], top_k=2) == every[-6:-4]
    limit = every[3]["score"]
    assert predictions(threshold=limit) == every[:4]
    assert predictions(threshold=1.0) == [each for each in every if each["score"] == 1]


def test_events_are_what_the_pipelines_windows_say(classifier, extractor, classify):
    recording = np.concatenate([tone(3), np.zeros(16000), tone(2.6, seed=1), 0.01 * tone(1, seed=3)])
    options = {"window_s": 2, "hop_s": 0.7}
    windows = classify(recording, timestamps=True, top_k=None, **options)
    (found, short) = AudioTagger(classifier, extractor, timestamps=True, threshold=0.3, **options).tag(
        [recording, tone(1, seed=5)]
    )
    for moment in np.linspace(0, len(recording) / 16000, 77, endpoint=False) + 0.001:
        covering = [each["labels"] for each in windows if each["timestamp"][0] <= moment < each["timestamp"][1]]
        scores = {label: np.mean([scores_of(labels)[label] for labels in covering]) for label in LABELS}
        expected = {label for label, score in scores.items() if score >= 0.3}
        assert {event.label for event in found.events if event.onset <= moment < event.offset} == expected
    assert found.events[-1].offset == pytest.approx(found.duration_s) == len(recording) / 16000
    # A window that is longer than the recording is the recording.
    expected = [each for each in classify(tone(1, seed=5)) if each["score"] >= 0.3]
    assert_same_labels([{"label": event.label, "score": event.score} for event in short.events], expected)
    assert all((event.onset, event.offset) == (0, 1) for event in short.events)


def test_events_come_by_their_onsets_whatever_passes_the_network_first(classifier, extractor):
    """Windows that are cut into chunks, in batches of one and of several, beside other recordings."""
    recording, other = tone(150), tone(3, seed=1)
    options = {"timestamps": True, "window_s": 65, "hop_s": 10, "threshold": 0.0}
    (together, _) = AudioTagger(classifier, extractor, batch_size=3, **options).tag([recording, other])
    (alone,) = AudioTagger(classifier, extractor, batch_size=1, **options).tag([recording])
    for found, expected in zip(together.events, alone.events, strict=True):
        assert found[:3] == expected[:3]
        assert found.score == pytest.approx(expected.score, abs=1e-5)


@pytest.fixture
def rows(recordings):
    paths = sorted(str(path) for path in recordings.iterdir() if path.name.startswith("clip"))
    return datasets.Dataset.from_dict({"audio": paths, "label": list("ababab")})


def test_tag_dataset(rows, classifier_repository, classify):
    tagged = tag_dataset(rows, classifier_repository, dtype="float32", map_batch_size=4)
    assert tagged.column_names == ["label", "predictions", "duration_s"]
    assert tagged["label"][:] == rows["label"][:]
    for row, path in zip(tagged, rows["audio"], strict=True):
        assert_same_labels(row["predictions"], classify(path))
    found = tag_dataset(rows, classifier_repository, dtype="float32", timestamps=True, window_s=1, threshold=0.3)
    assert found.column_names == ["label", "events", "duration_s"]
    assert all(event.keys() == {"onset", "offset", "label", "score"} for events in found["events"] for event in events)
    for row, path in zip(found, rows["audio"], strict=True):
        windows = classify(path, timestamps=True, window_s=1)
        expected = {each["label"] for window in windows for each in window["labels"] if each["score"] >= 0.3}
        assert {event["label"] for event in row["events"]} == expected


def test_in_a_users_own_map(rows, classifier_repository):
    tagger = AudioTagger(classifier_repository, dtype="float32", top_k=2)
    mapped = rows.map(tagger, batched=True, batch_size=2, remove_columns="audio", num_proc=2, with_rank=True)
    expected = tag_dataset(rows, classifier_repository, dtype="float32", top_k=2)
    for found, row in zip(mapped, expected, strict=True):
        assert_same_labels(found["predictions"], row["predictions"])
    assert Hasher.hash(AudioTagger(classifier_repository)) == Hasher.hash(AudioTagger(classifier_repository))
    assert Hasher.hash(AudioTagger(classifier_repository, labels=["dog"])) != Hasher.hash(
        AudioTagger(classifier_repository, labels=["rain"])
    )


def test_a_bad_recording_is_raised_or_recorded(rows, classifier_repository, tmp_path):
    (tmp_path / "bad.wav").write_text("text")
    bad = datasets.Dataset.from_dict({"audio": [rows["audio"][0], str(tmp_path / "bad.wav")]})
    for options in ({}, {"timestamps": True}):
        with pytest.raises(AudioError, match=r"bad\.wav cannot be decoded"):
            tag_dataset(bad, classifier_repository, **options)
        recorded = tag_dataset(bad, classifier_repository, on_error="record", **options)
        assert [error is None for error in recorded["error"]] == [True, False]
        assert recorded[1]["duration_s"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "`threshold` has to be from 0 to 1, as scores are, not 1.5"),
        ({"threshold": -0.1}, "`threshold` has to be from 0 to 1"),
        ({"threshold": float("nan")}, "`threshold` has to be from 0 to 1, as scores are, not nan"),
        ({"top_k": 0}, "`top_k` has to be 1 or more, not 0"),
        ({"top_k": 3, "timestamps": True}, "`top_k` cannot be used with `timestamps`"),
        ({"window_s": 1}, "need `timestamps`"),
        ({"hop_s": 1}, "need `timestamps`"),
        ({"label_tracks": True}, "need `timestamps`"),
        ({"timestamps": True, "window_s": 0.01}, r"window_s=0\.01 is shorter than the [\d.]+ s that [\w-]+ takes as a"),
        ({"timestamps": True, "window_s": 2, "hop_s": 3}, "hop_s=3 has to be above 0 and at most window_s=2"),
        ({"labels": []}, r"`labels` has to be a list of labels, not \[\]"),
        ({"labels": "dog"}, "`labels` has to be a list of labels, not 'dog'"),
        ({"dtype": "bfloat16"}, "a model is already built"),
    ],
)
def test_wrong_options(classifier, extractor, options, message):
    with pytest.raises(ValueError, match=message):
        AudioTagger(classifier, extractor, **options)


def test_a_label_that_is_unknown_is_named_with_those_like_it(classifier, extractor):
    with pytest.raises(HfGarError, match=r"no label 'Dogs'. Did you mean 'dog'\?"):
        AudioTagger(classifier, extractor, labels=["rain", "Dogs"])
    with pytest.raises(HfGarError, match=r"no label 'xyz'. It has 'dog', 'rain', 'baby', 'clock'\."):
        AudioTagger(classifier, extractor, labels=["xyz"])


def test_what_is_no_classifier(repository, model, extractor):
    with pytest.raises(HfGarError, match=r"has no classifier, only embeddings\. CNN14 and AST have one"):
        AudioTagger(repository)
    with pytest.raises(ValueError, match="but AudioTagger takes a FusionForAudioClassification"):
        AudioTagger(model, extractor)


def test_a_head_of_another_size_than_the_labels(rows, tmp_path):
    folder = save_tiny_classifier("cnn14-fusion", tmp_path / "repository")
    config = json.loads((folder / "config.json").read_text())
    labels = [*LABELS, "fifth"]
    config |= {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(HfGarError, match=r"does not have 5 labels.*classifier\.weight has another shape"):
        tag_job(rows, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_length_of_asts_input(tmp_path):
    """The length that the classifier is loaded with is the extractor's, too."""
    folder = save_tiny_classifier("ast-fusion", tmp_path / "repository")
    (found,) = AudioTagger(folder, dtype="float32", model_kwargs={"max_length": 128}).tag([tone(1)])
    short = build_tiny_classifier("ast-fusion", max_length=128)
    inputs = MODELS["ast-fusion"].feature_extractor(feature_size=32, max_length=128)
    with torch.no_grad():
        scores = short(**inputs(tone(1), sampling_rate=16000, return_tensors="pt")).logits[0].softmax(0)
    assert scores_of(found.predictions) == pytest.approx(dict(zip(LABELS, scores.tolist(), strict=True)), abs=1e-5)
