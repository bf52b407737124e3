"""Training all of a network with transformers' Trainer: what is kept, what is resumed, what is written."""

import copy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hf_gar import HfGarError
from hf_gar.evaluation import optional
from hf_gar.hub.check import check_repository
from hf_gar.hub.training_record import read_training
from hf_gar.models.audio_loading import load_audio
from hf_gar.training.clips import Clips
from hf_gar.training.fine_tuning import FineTuned, FineTuning, fine_tune
from tests.conftest import build_tiny_classifier, build_tiny_extractor, save_tiny
from tests.training.test_run import write_tones

SETTINGS = FineTuning(learning_rate=0.003, epochs=3, batch_size=8)


def clips_of(model_type: str, count: int, first: int = 0, augmentation=None, **kinds) -> Clips:
    """Tones of four pitches, each one's label, with lengths of their own."""
    sources, targets = [], []
    for index in range(first, first + count):
        time = np.arange(9000 + 500 * (index % 5)) / 16000
        wave = 0.4 * np.sin(2 * np.pi * 250 * 2 ** (index % 4) * time + index)
        sources.append({"array": wave.astype(np.float32), "sampling_rate": 16000})
        targets.append(np.eye(4)[index % 4])
    extractor = build_tiny_extractor(model_type)
    return Clips(sources, [None] * count, np.stack(targets), extractor, None, augmentation)


def tune(model, folder: Path, settings: FineTuning = SETTINGS, model_type: str = "cnn14-fusion", **identity):
    train = clips_of(model_type, 24, augmentation=settings.augmentation)
    return fine_tune(model, train, clips_of(model_type, 12, first=24), folder, settings, identity, "cpu")


def classifier(model_type: str = "cnn14-fusion"):
    """With a normalisation that fits its embeddings, as a linear layer that was trained has."""
    model = build_tiny_classifier(model_type)
    clips = clips_of(model_type, 24)
    with torch.no_grad():
        inputs = clips.collate([clips[index] for index in range(24)])
        inputs.pop("labels")
        embeddings = model.backbone(**inputs).pooler_output
        model.classifier_norm.running_mean.copy_(embeddings.mean(0))
        model.classifier_norm.running_var.copy_(embeddings.var(0))
        model.classifier.weight.mul_(0.1)
    return model


def weights_of(model) -> dict[str, torch.Tensor]:
    return copy.deepcopy(model.state_dict())


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_all_weights_are_trained_but_no_statistics(model_type, tmp_path):
    if model_type == "backbone-fusion":
        pytest.skip("its only normalisation with statistics is the classifier's, as the others'")
    model = classifier(model_type)
    model.classifier.weight.data.zero_()  # whatever is learned is better
    before = weights_of(model)
    result = tune(model, tmp_path, replace(SETTINGS, learning_rate=1e-3), model_type)
    assert result.epochs == 3
    assert 1 <= result.best_epoch <= 3
    after = weights_of(model)
    statistics = {name for name, _ in model.named_buffers()}
    assert same(*({name: state[name] for name in statistics} for state in (after, before)))
    unchanged = {name for name in before.keys() - statistics if torch.equal(after[name], before[name])}
    # What comes after the layers that are classified.
    beyond = {"cnn14-fusion": ["fc1"], "vggish-fusion": [f"fully_connected.{layer}" for layer in (17, 19, 21)]}
    assert unchanged == {
        f"backbone.{module}.{kind}" for module in beyond.get(model_type, ()) for kind in ("weight", "bias")
    }
    assert not model.training


def test_it_learns(tmp_path):
    model = classifier()
    valid = clips_of("cnn14-fusion", 12, first=24)
    batch = valid.collate([valid[index] for index in range(12)])
    labels = batch.pop("labels").argmax(1)

    def loss() -> float:
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(**batch).logits, labels).item()

    before = loss()
    tune(model, tmp_path, replace(SETTINGS, learning_rate=0.01, epochs=20, patience=20))
    guessing = np.log(4)
    assert loss() < guessing / 2 < guessing < before
    with torch.no_grad():
        assert (model(**batch).logits.argmax(1) == labels).float().mean() > 0.5  # chance is a quarter
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    logged = {name: [event.value for event in events.Scalars(name)] for name in ("train/loss", "eval/loss")}
    assert len(logged["train/loss"]) == 20
    assert len(logged["eval/loss"]) == 21  # and of the linear layer, before
    assert logged["eval/loss"][0] == pytest.approx(before, rel=1e-4)
    assert loss() == pytest.approx(min(logged["eval/loss"], key=lambda each: abs(each - loss())), rel=1e-4)


@pytest.mark.parametrize("learning_rate", [3.0, 1e30])
def test_what_is_no_better_than_the_linear_layer_is_not_kept(learning_rate, tmp_path):
    model = classifier()
    tune(model, tmp_path / "good", replace(SETTINGS, epochs=12))
    good = weights_of(model)
    result = tune(model, tmp_path / "bad", replace(SETTINGS, learning_rate=learning_rate))
    assert result == FineTuned(best_epoch=0, epochs=3)
    assert same(weights_of(model), good)


def test_it_stops_early_and_keeps_the_best(tmp_path):
    model = classifier()
    before = weights_of(model)
    # So small a rate changes nothing: no epoch is better than the first.
    result = tune(model, tmp_path, replace(SETTINGS, learning_rate=1e-30, epochs=20, patience=2))
    assert result == FineTuned(best_epoch=1, epochs=3)
    assert same(weights_of(model), before)


def test_one_that_has_ended_is_read(tmp_path):
    model = classifier()
    result = tune(model, tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".pth", ".bin")]
    weights = (tmp_path / "model.safetensors").stat().st_mtime_ns
    other = classifier()
    assert tune(other, tmp_path) == result
    assert same(weights_of(other), weights_of(model))
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize(
    ("settings", "identity", "message"),
    [
        (replace(SETTINGS, learning_rate=0.1), {}, "holds a fine-tuning with another learning_rate"),
        (SETTINGS, {"classes": ["a"]}, "holds a fine-tuning with another classes"),
    ],
)
def test_another_one_in_the_same_folder_is_refused(settings, identity, message, tmp_path):
    tune(classifier(), tmp_path, replace(SETTINGS, epochs=3), classes=["b"])
    identity = {"classes": ["b"], **identity}
    with pytest.raises(HfGarError, match=message):
        tune(classifier(), tmp_path, settings, **identity)


def test_several_labels(tmp_path):
    model = build_tiny_classifier("cnn14-fusion", problem_type="multi_label_classification")
    assert tune(model, tmp_path).epochs == 3
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert events.Scalars("train/loss")[0].value < 20  # binary cross-entropy, the mean over labels


def test_a_padded_clip_is_what_it_is_alone():
    clips = clips_of("cnn14-fusion", 6)
    batch = clips.collate([clips[index] for index in range(6)])
    assert batch["labels"].shape == (6, 4)
    assert sorted(set(batch["attention_mask"].sum(1).tolist())) == sorted(
        {len(clips[i]["input_features"]) for i in range(6)}
    )
    model = build_tiny_classifier("cnn14-fusion")
    labels = batch.pop("labels")
    with torch.no_grad():
        together = model(**batch).logits
        for index in range(6):
            alone = clips.collate([clips[index]])
            assert torch.equal(alone.pop("labels")[0], labels[index])
            torch.testing.assert_close(model(**alone).logits[0], together[index], rtol=1e-4, atol=1e-4)


def test_of_a_long_recording_another_piece_is_heard_each_time():
    extractor = build_tiny_extractor("cnn14-fusion")
    noise = np.random.default_rng(0).normal(size=16000 * 25) * np.linspace(0, 0.3, 16000 * 25)
    ramp = {"array": noise.astype(np.float32), "sampling_rate": 16000}  # ever louder
    torch.manual_seed(0)
    settings = replace(SETTINGS.augmentation, gain_db=0.0, mixing=0.0, masks=0)
    train, valid = (Clips([ramp], [None], np.eye(1), extractor, None, each) for each in (settings, None))
    pieces = [train[0]["input_features"] for _ in range(5)]
    assert {len(piece) for piece in pieces} == {1001}
    assert len({float(piece.mean()) for piece in pieces}) == 5
    assert np.array_equal(valid[0]["input_features"], valid[0]["input_features"])
    assert len(valid[0]["input_features"]) == 1001


def test_missing_libraries_are_told_before_the_work(tmp_path, monkeypatch, run_here):
    def missing(module):
        if module == "tensorboard":
            raise ModuleNotFoundError(f"No module named {module!r}")

    monkeypatch.setattr(optional, "import_module", missing)
    data = write_tones(tmp_path / "tones", count=18)
    code, _, errors = run_here("train", "--data", data, "--output", tmp_path / "out", "--fine-tune")
    assert (code, 'tensorboard is missing: pip install "hf_gar[train]"' in errors) == (1, True)
    assert {path.name for path in tmp_path.iterdir()} == {"tones"}


# From the command line


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones") / "tones")


@pytest.fixture(scope="module")
def cnn14(tmp_path_factory) -> Path:
    return save_tiny("cnn14-fusion", tmp_path_factory.mktemp("model") / "cnn14")


def options(tones, cnn14, output, epochs=4) -> list[str]:
    command = ["train", "--data", tones, "--model", cnn14, "--output", output, "--dtype", "float32", "--lr", "0.01"]
    command += ["--device", "cpu", "--fine-tune", "--fine-tune-lr", "0.001", "--epochs", epochs, "--reject"]
    return list(map(str, command))


def test_a_fine_tuned_repository(tones, cnn14, tmp_path, run_here):
    code, printed, _ = run_here(*options(tones, cnn14, tmp_path / "out"))
    assert code == 0
    record = read_training(tmp_path / "out")
    tuning = record.fine_tuning
    assert record.folds is None  # the last of three, alone
    assert [label.test for label in record.labels] == [4, 4, 4]
    assert (tuning.learning_rate, tuning.epochs) == (0.001, 4)
    assert record.test.value - tuning.linear.value == pytest.approx(tuning.gain.value)
    assert record.rejection.unknown_rejected is None
    assert "of the fine-tuning" in printed
    assert ("gained +" in printed or "gained -" in printed) == (tuning.best_epoch > 0)
    repository = check_repository(tmp_path / "out")
    text = " ".join(ModelCard.load(tmp_path / "out" / "README.md").text.split())
    if tuning.best_epoch:
        assert "the fine-tuning gained" in text
    assert "How many it rejects of sounds that it does not know was not measured." in text
    # What was tested is what is there.
    model, extractor = repository.load_classifier(), repository.load_feature_extractor()
    rows = (line.split(",") for line in (tones / "metadata.csv").read_text().splitlines()[1:])
    tested = [(name, label) for name, label, fold in rows if fold == "2"]
    waves = [load_audio(tones / name, 16000) for name, _ in tested]
    with torch.no_grad():
        found = model(**extractor(waves, sampling_rate=16000, return_tensors="pt")).logits.argmax(1).tolist()
    right = [model.config.id2label[number] == label for number, (_, label) in zip(found, tested, strict=True)]
    assert np.mean(right) == pytest.approx(record.test.value)
    assert list((tmp_path / "out-training" / "fine-tuning" / "logs").iterdir())


@pytest.mark.slow
def test_one_that_is_killed_ends_as_if_it_had_not_been(tones, cnn14, tmp_path, run_here):
    """SIGKILL between two checkpoints and while one is written: in the end, the same bytes."""
    assert run_here(*options(tones, cnn14, tmp_path / "whole"))[0] == 0
    command = [sys.executable, "-m", "hf_gar", *options(tones, cnn14, tmp_path / "killed")]
    folder = tmp_path / "killed-training" / "fine-tuning"
    kill_when(command, lambda: len(list(folder.glob("checkpoint-*/trainer_state.json"))) >= 1)
    assert not (tmp_path / "killed").exists()
    # As if it had been killed while it wrote the next one.
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    steps = int(last.name.split("-")[1])
    torn = folder / f"checkpoint-{steps + 100}"
    shutil.copytree(last, torn)
    (torn / "trainer_state.json").write_text('{"epoch": 1.0, ')
    (torn / "model.safetensors").write_bytes((last / "model.safetensors").read_bytes()[:1000])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "training.json"):
        found, expected = ((tmp_path / each / name).read_bytes() for each in ("killed", "whole"))
        assert found == expected, name


def kill_when(command: list[str], is_time) -> None:
    """Start a command, and kill it as soon as `is_time()`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not is_time():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
