"""The record of a training: a file beside the weights, and the card that tells of it."""

import json
import re

import pytest

from hf_gar.errors import HfGarError
from hf_gar.hub.card import Origin, render_card
from hf_gar.hub.training_record import (
    FineTuningRecord,
    LabelRecord,
    RejectionRecord,
    Score,
    TrainingRecord,
    read_training,
)
from hf_gar.registry import MODELS

RECORD = TrainingRecord(
    base="org/cnn14-fusion",
    base_sha256="ab" * 32,
    is_base_official=True,
    data="barks | and <more>",
    metric="accuracy",
    test=Score(0.9, 0.8, 0.95),
    valid=0.92,
    folds=None,
    is_random_split=False,
    layers=[3, 6],
    is_searched=False,
    learning_rate=0.0003,
    best_epoch=7,
    seed=43,
    seeds=[42, 43],
    seconds=2.5,
    labels=[LabelRecord("dog | bark", 10, 2, 3, Score(1.0, 0.44, 1.0)), LabelRecord("cat", 10, 2, 0, None)],
    confusion=[[3, 0], [0, 0]],
    rejection=RejectionRecord(0.61, 0.05, Score(0.1, 0.0, 0.3), None, Score(0.5, 0.2, 0.8), 2),
    fine_tuning=FineTuningRecord(0.0001, 3, 8, Score(0.8, 0.7, 0.9), Score(0.1, -0.02, 0.2)),
)


def test_it_is_read_as_it_was_written(tmp_path):
    assert read_training(tmp_path) is None
    RECORD.write(tmp_path)
    assert read_training(tmp_path) == RECORD


@pytest.mark.parametrize("damage", [{"labels": [{"name": "dog"}]}, {"test": None, "rejected": 1}, {"rejection": 3}])
def test_a_damaged_one_is_named(damage, tmp_path):
    RECORD.write(tmp_path)
    path = tmp_path / "training.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    with pytest.raises(HfGarError, match=r"training\.json is damaged: .*Train or download the repository again"):
        read_training(tmp_path)


def card_of(record: TrainingRecord, **config) -> tuple[str, str]:
    """The card on one line, and as it is."""
    spec = MODELS["cnn14-fusion"]
    names = [label.name for label in record.labels]
    of_labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    origin = Origin(record.base, "ab", False, "cd", base_model=record.base, revision="f" * 40, license="cc-by-4.0")
    card = render_card(spec.config(**of_labels), spec.feature_extractor(), origin, True, training=record)
    return re.sub(r"\s+", " ", card.text), card.content


def test_the_card_of_a_fine_tuned_classifier():
    text, content = card_of(RECORD)
    assert "base_model: org/cnn14-fusion" in content
    assert "license: cc-by-4.0" in content
    assert "agkphysics/AudioSet" not in content  # the classifier was trained on other data
    assert "[org/cnn14-fusion](https://huggingface.co/org/cnn14-fusion), fine-tuned with it, trained on" in text
    assert r"barks \| and \<more\>" in text
    assert r"| dog \| bark | 10 | 2 | 3 | 100.0 (44.0 to 100.0) | | cat | 10 | 2 | 0 | no test clip |" in text
    assert "the fine-tuning gained +10.0 points (95 % interval -2.0 to +20.0)" in text
    assert "seed 43, the one of 42, 43 that validated best" in text
    assert "those of epoch 3, which validated best, are here" in text
    assert 'is labelled "unknown". 5 % of the validation clips are below that. Of the test clips' in text
    assert "10.0 % (95 % interval 0.0 to 30.0) are. Of sounds that it does not know, 50.0 %" in text
    assert "Clips were cut or padded to 2.5 s for the training" in text
    assert "https://zenodo.org/records/3987831/files/Cnn14_16k_mAP%3D0.438.pth?download=1, under CC BY 4.0" in text
    assert "\n\n\n" not in content
    assert "GTZAN" not in text  # the paper's figures are of the network, and in its card


def test_the_card_of_a_fine_tuning_that_gained_nothing():
    tuning = FineTuningRecord(0.0001, 0, 8, Score(0.8), Score(0.0, 0.0, 0.0))
    fields = {**RECORD.__dict__, "fine_tuning": tuning, "rejection": None, "base": "mine", "is_base_official": False}
    text, _ = card_of(TrainingRecord(**fields))
    assert "none of the epochs validated better than the linear layer alone, whose weights are here" in text
    assert "fine-tuned with it" not in text
    assert "Unknown sounds" not in text
    assert "zenodo" not in text
