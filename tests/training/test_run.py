"""From labelled recordings to a classifier's repository, with small untrained networks and the one in the box."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from sklearn.preprocessing import StandardScaler
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, pipeline

from hf_gar.cli import main
from hf_gar.embedding.jobs.results import read_job
from hf_gar.evaluation.embed_task import EmbeddingOptions
from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.linear_probe import train_linear_probes
from hf_gar.evaluation.partitions import make_partitions
from hf_gar.evaluation.run import run_evaluation
from hf_gar.evaluation.task_data import open_task
from hf_gar.hub.card import add_results
from hf_gar.hub.check import check_repository
from hf_gar.hub.load import find_repository
from hf_gar.hub.training_record import read_training
from hf_gar.models.audio_loading import load_audio
from hf_gar.training.repository import build_classifier
from hf_gar.training.run import train_classifier
from tests.conftest import real_folder, relative_error, save_tiny, save_tiny_classifier
from tests.evaluation.synthetic import clusters

PITCHES = (300, 1000, 3000)
FLOAT32 = EmbeddingOptions(dtype="float32")


def write_tones(folder: Path, count: int = 36, column: str = "fold") -> Path:
    """Tones of three pitches in noise, in three folds or splits."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = [f"file_name,label,{column}"]
    for index in range(count):
        pitch = PITCHES[index % 3]
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(24000) / 16000) + 0.02 * generator.normal(size=24000)
        soundfile.write(folder / f"{index}.wav", wave, 16000)
        part = index // 3 % 3
        rows.append(f"{index}.wav,{pitch} Hz,{part if column == 'fold' else ('train', 'valid', 'test')[part]}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones") / "tones")


@pytest.fixture(scope="module")
def cnn14(tmp_path_factory) -> Path:
    return save_tiny("cnn14-fusion", tmp_path_factory.mktemp("model") / "cnn14")


def train(*options) -> int:
    return main(["train", "--dtype", "float32", "--lr", "0.01", *map(str, options)])


# The repository


@pytest.fixture(scope="module")
def trained(tones, cnn14, tmp_path_factory) -> Path:
    """Three folds, and a threshold for unknown sounds."""
    folder = tmp_path_factory.mktemp("trained") / "my classifier"
    assert train("--data", tones, "--model", cnn14, "--output", folder, "--reject", "0.2") == 0
    return folder


def test_it_is_complete_and_can_be_published(trained):
    repository = check_repository(trained)  # what a push checks, with the repository's own code
    assert repository.has_classifier
    config = repository.load_config()
    assert config.id2label == {0: "1000 Hz", 1: "300 Hz", 2: "3000 Hz"}
    assert (config.num_labels, config.problem_type) == (3, "single_label_classification")
    assert {path.stat().st_mode & 0o777 for path in trained.iterdir()} == {0o644}
    assert np.asarray(Image.open(trained / "confusion.png").convert("L")).std() > 10


def test_it_tells_the_recordings_apart(trained, tones):
    classify = pipeline("audio-classification", model=str(trained), trust_remote_code=True, device="cpu")
    names = [f"{index}.wav" for index in range(36)]
    results = classify([str(tones / name) for name in names], rejection_threshold=0)
    found = [labels[0]["label"] for labels in results]
    right = [label == f"{PITCHES[index % 3]} Hz" for index, label in enumerate(found)]
    assert np.mean(right) > 2 / 3  # chance is a third, and the network is untrained
    # What is like none of them is unknown.
    threshold = find_repository(trained).load_config().rejection_threshold
    for name, labels in zip(names, results, strict=True):
        (best, *_) = classify(str(tones / name))
        assert (best["label"] == "unknown") == (labels[0]["score"] < threshold)


def test_the_network_under_it_is_the_one_that_was_given(trained, cnn14, tones):
    waveform = load_audio(tones / "0.wav", 16000)
    extractor = AutoFeatureExtractor.from_pretrained(trained, trust_remote_code=True)
    inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    found, expected = (
        AutoModel.from_pretrained(folder, trust_remote_code=True)(**inputs).pooler_output.detach()
        for folder in (trained, cnn14)
    )
    assert relative_error(found, expected) < 1e-6


def test_the_record_and_the_card_say_what_was_trained(trained, cnn14, tones):
    record = read_training(trained)
    assert json.loads((trained / "training.json").read_text())["test"]["value"] == record.test.value
    assert (record.base, record.base_sha256) == ("cnn14", find_repository(cnn14).weights_sha256)
    assert (record.data, record.folds, record.layers, record.seeds) == ("tones", 3, [3, 6], [42, 43, 44])
    assert record.seed in record.seeds
    assert [(label.name, label.train, label.valid, label.test) for label in record.labels] == [
        ("1000 Hz", 11, 1, 12),
        ("300 Hz", 11, 1, 12),
        ("3000 Hz", 11, 1, 12),
    ]
    assert np.sum(record.confusion) == 3 * 36
    card = ModelCard.load(trained / "README.md")
    assert card.data.pipeline_tag == "audio-classification"
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_value) == ("tones", round(100 * record.test.value, 1))
    text = re.sub(r"\s+", " ", card.text)
    assert (
        "Each of 3 folds was tested by classifiers of 3 seeds that were trained in the same way on the others" in text
    )
    assert "The network's own weights are unchanged." in text
    assert "(confusion.png)" in text
    rejection = record.rejection
    assert (
        'labelled "unknown". 20 % of the validation clips are below that. Of the test clips, whose labels it knows, '
        in text
    )
    assert f"{100 * rejection.unknown_rejected.value:.1f} % (95 % interval" in text
    for label in record.labels:
        score = label.score
        interval = f"({100 * score.low:.1f} to {100 * score.high:.1f})"
        assert f"| {label.name} | 11 | 1 | 12 | {100 * score.value:.1f} {interval} |" in text
    assert "\n\n\n" not in card.text
    assert str(cnn14) not in card.content  # where it lay on this machine


def test_results_are_added_to_its_card(trained, cnn14, tones, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    before = (folder / "README.md").read_text()
    add_results(folder, [])
    assert (folder / "README.md").read_text() == before
    run_evaluation(folder, open_task(tones), tmp_path / "evaluation", seeds=[1], learning_rate="0.01")
    assert main(["card", str(folder), "--results", str(tmp_path / "evaluation")]) == 0
    card = ModelCard.load(folder / "README.md")
    assert [result.dataset_name for result in card.data.eval_results] == ["tones", "tones (own data)"]
    assert "| tones (own data) |" in card.text
    assert "(confusion.png)" in card.text
    check_repository(folder)


# What is trained


def test_its_logits_are_the_probes(cnn14):
    """Of embeddings on any scale, among them a dimension that is constant and one that nearly is."""
    repository = find_repository(cnn14)
    config = repository.load_config()
    embeddings, targets = clusters(200, config.embedding_size, 4)
    scales = 10 ** np.random.default_rng(1).uniform(-4, 3, config.embedding_size)
    embeddings = (embeddings * scales).astype(np.float32)
    embeddings[:, 0] = 7
    embeddings[:, 1] = 5 + 1e-3 * embeddings[:, 1] / scales[1]
    memberships = np.array(["train", "train", "valid", "test"])[np.arange(200) // 4 % 4]
    task = EmbeddedTask(embeddings, targets, ("a", "b", "c", "d"), memberships, False, list(map(str, range(200))))
    partitions = make_partitions(targets, task.classes, memberships, False, [0])
    (run,) = train_linear_probes(embeddings, targets, 4, partitions, [0.01])
    model = build_classifier(repository, config, config.fused_layers, run, task)
    logits = model.classify(torch.from_numpy(embeddings)).detach().numpy()
    assert relative_error(logits[run.partition.test], run.test_scores) < 1e-4
    # The same by another hand.
    scaler = StandardScaler().fit(embeddings[run.partition.train].astype(np.float64))
    expected = scaler.transform(embeddings.astype(np.float64)) @ run.weight.T.astype(np.float64) + run.bias
    assert relative_error(logits, expected) < 1e-4
    norm = model.classifier_norm
    np.testing.assert_allclose(norm.running_mean.numpy(), scaler.mean_, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), scaler.var_, rtol=1e-4, atol=1e-9)
    assert norm.num_batches_tracked == 10


def test_it_is_what_the_evaluation_finds(tones, cnn14, tmp_path):
    """One split: the test score is that of `hf-gar evaluate`, and the repository's own answers give it again."""
    folder = write_tones(tmp_path / "splits", column="split")
    record = train_classifier(
        cnn14, open_task(folder), tmp_path / "out", learning_rate="0.001", seeds=[1], embedding=FLOAT32
    )
    evaluation = run_evaluation(
        cnn14, open_task(folder), tmp_path / "evaluation", learning_rate="0.001", seeds=[1], embedding=FLOAT32
    )
    assert record.test.value == pytest.approx(evaluation.test.mean)
    assert record.valid == pytest.approx(evaluation.valid)
    assert record.confusion == evaluation.confusion.tolist()
    assert {label.name: label.score.value for label in record.labels} == pytest.approx(evaluation.per_class)
    assert (record.folds, record.is_random_split) == (None, False)
    classify = pipeline("audio-classification", model=str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    data = open_task(folder)
    tested = [row for row in data.dataset if row["split"] == "test"]
    right = [classify(row["audio"])[0]["label"] == row["label"] for row in tested]
    assert np.mean(right) == pytest.approx(record.test.value)


def test_folds_are_what_the_evaluation_finds(trained, cnn14, tones, tmp_path):
    evaluation = run_evaluation(
        cnn14, open_task(tones), tmp_path / "evaluation", learning_rate="0.01", embedding=FLOAT32
    )
    record = read_training(trained)
    assert (record.test.value, record.test.low, record.test.high) == pytest.approx(tuple(evaluation.test))
    assert record.confusion == evaluation.confusion.tolist()


def test_one_fold_alone(tones, cnn14, tmp_path):
    options = {"learning_rate": "0.01", "embedding": FLOAT32, "seeds": [42]}
    record = train_classifier(cnn14, open_task(tones), tmp_path / "out", test_fold="1", **options)
    assert record.folds is None
    assert [label.test for label in record.labels] == [4, 4, 4]
    evaluation = run_evaluation(cnn14, open_task(tones), tmp_path / "evaluation", **options)
    runs = evaluation.runs.set_index("fold")
    assert record.test.value == pytest.approx(runs.loc["1", "test"])


def test_layers_and_learning_rate_are_searched(tones, cnn14, tmp_path, run_here):
    options = ["--data", tones, "--model", cnn14, "--dtype", "float32", "--search"]
    code, printed, _ = run_here("train", *options, "--output", tmp_path / "out")
    assert code == 0
    record = read_training(tmp_path / "out")
    assert record.is_searched
    assert f"layers {' + '.join(map(str, record.layers))}, learning rate {record.learning_rate:g}" in printed
    config = find_repository(tmp_path / "out").load_config()
    assert config.classifier_layers == record.layers
    assert config.fusion_layers == [3, 6]  # of the network
    check_repository(tmp_path / "out")
    assert "Layers and learning rate were chosen on clips that other folds test" in ModelCard.load(
        tmp_path / "out" / "README.md"
    ).text.replace("\n", " ")
    code, _, errors = run_here("train", *options, "--fusion-layers", "3", "--output", tmp_path / "other")
    assert (code, "--search chooses the layers itself" in errors) == (1, True)


def test_a_folder_for_each_class(tones, cnn14, tmp_path, run_here):
    folder = tmp_path / "recordings"
    for index in range(36):
        place = folder / f"{PITCHES[index % 3]} Hz" / f"{index}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tones / f"{index}.wav", place)
    options = ["--data", folder, "--model", cnn14, "--lr", "0.01"]
    assert run_here("train", *options, "--output", tmp_path / "out")[0] == 0
    record = read_training(tmp_path / "out")
    assert record.is_random_split
    assert [(label.name, label.train, label.valid, label.test) for label in record.labels] == [
        (f"{pitch} Hz", 9, 1, 2) for pitch in sorted(PITCHES, key=str)
    ]
    assert "These were chosen at random" in (tmp_path / "out" / "README.md").read_text().replace("\n", " ")


def test_several_labels(tones, cnn14, tmp_path):
    rows = (tones / "metadata.csv").read_text().splitlines()
    folder = shutil.copytree(tones, tmp_path / "tones")
    table = [rows[0], *(row.replace(" Hz,", ' Hz,tone",').replace(".wav,", '.wav,"') for row in rows[1:])]
    table[1] = table[1].replace(",tone", "")  # one that lacks it
    table[5] = table[5].replace(",tone", "")
    table[9] = table[9].replace(",tone", "")
    (folder / "metadata.csv").write_text("\n".join(table) + "\n")
    options = ["--data", folder, "--model", cnn14, "--metric", "mAP", "--test-fold", "0"]
    assert train(*options, "--output", tmp_path / "out") == 0
    record = read_training(tmp_path / "out")
    assert (record.metric, record.confusion) == ("mAP", None)
    assert [label.name for label in record.labels] == ["1000 Hz", "300 Hz", "3000 Hz", "tone"]
    config = find_repository(tmp_path / "out").load_config()
    assert config.problem_type == "multi_label_classification"
    assert not (tmp_path / "out" / "confusion.png").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "mean average precision" in card
    assert "confusion.png" not in card
    check_repository(tmp_path / "out")
    assert train(*options, "--output", tmp_path / "other", "--reject") == 1


def test_an_input_of_a_fixed_length_and_own_statistics_come_along(tones, tmp_path):
    """AST at the clips' length, its spectrograms normalised by the training clips, as the evaluation has it."""
    ast = save_tiny("ast-fusion", tmp_path / "ast")
    assert train("--data", tones, "--model", ast, "--seconds", "1.5", "--output", tmp_path / "out") == 0
    repository = find_repository(tmp_path / "out")
    extractor = repository.load_feature_extractor()
    assert repository.load_config().max_length == extractor.max_length == 148
    assert extractor.mean != find_repository(ast).load_feature_extractor().mean
    assert read_training(tmp_path / "out").seconds == 1.5
    check_repository(tmp_path / "out")
    job = read_job(tmp_path / "out-training" / "embeddings")
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "out", trust_remote_code=True)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "out", trust_remote_code=True)
    waveform = load_audio(tones / job.rows["file_name"][0], 16000)
    inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    expected = model.classify(torch.from_numpy(job.embeddings[:1])).detach()
    assert relative_error(model(**inputs).logits.detach(), expected) < 1e-4


def test_in_place_of_another_classifier(tones, tmp_path):
    other = save_tiny_classifier(
        "cnn14-fusion", tmp_path / "other", classifier_layers=[7], classifier_norm="layer_norm"
    )
    assert train("--data", tones, "--model", other, "--output", tmp_path / "out") == 0
    config = check_repository(tmp_path / "out").load_config()
    assert (config.num_labels, config.classifier_layers, config.classifier_norm) == (3, [3, 6], "batch_norm")
    weights, before = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", other))
    backbone = {name for name in before if name.startswith("backbone.")}
    assert backbone <= weights.keys()
    assert all((weights[name] == before[name]).all() for name in backbone)


# Again, and mistakes


def test_the_same_command_resumes(tones, cnn14, tmp_path, run_here):
    options = ["--data", tones, "--model", cnn14, "--lr", "0.01", "--output", tmp_path / "out"]
    assert run_here("train", *options)[0] == 0
    (part,) = (tmp_path / "out-training" / "embeddings").glob("part-*")
    embedded = part.stat().st_mtime_ns
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    code, _, errors = run_here("train", *options)
    assert (code, "exists and is not an empty folder. Choose another --output" in errors) == (1, True)
    shutil.rmtree(tmp_path / "out")
    assert run_here("train", *options)[0] == 0
    assert part.stat().st_mtime_ns == embedded
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights


def test_another_models_work_is_refused(tones, cnn14, tmp_path, run_here):
    options = ["--data", tones, "--lr", "0.01", "--output", tmp_path / "out"]
    assert run_here("train", *options, "--model", cnn14)[0] == 0
    shutil.rmtree(tmp_path / "out")
    vggish = save_tiny("vggish-fusion", tmp_path / "vggish")
    code, _, errors = run_here("train", *options, "--model", vggish)
    assert (code, "out-training/embeddings holds another job: " in errors) == (1, True)


def test_mistakes_are_named(tones, cnn14, tmp_path, run_here):
    other = tmp_path / "wav2vec2"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "wav2vec2"}')
    (other / "preprocessor_config.json").write_text("{}")
    one = tmp_path / "one.csv"
    one.write_text(f"file_name,label,fold\n{tones}/0.wav,dog,1\n{tones}/1.wav,dog,2\n")
    case = tmp_path / "case.csv"
    case.write_text("file_name,label,fold\n" + "".join(f"{tones}/{i}.wav,{'dDc'[i % 3]},{i % 2}\n" for i in range(12)))
    for options, message in (
        (["--data", tones, "--model", other], "holds a model of the type 'wav2vec2'; hf_gar has vggish-fusion"),
        (["--data", one, "--model", cnn14], "All recordings have the label 'dog': there is nothing to tell apart"),
        (["--data", case, "--model", cnn14], "The labels 'D', 'd' differ only in upper and lower case"),
        (
            ["--data", tones, "--model", cnn14, "--test-fold", "9"],
            "no fold '9': the data has the folds '0', '1', ",
        ),
        (["--data", tones, "--model", cnn14, "--epochs", "3"], "--epochs and --fine-tune-lr go with --fine-tune"),
    ):
        code, _, errors = run_here("train", *options, "--output", tmp_path / "out")
        assert (code, message in errors) == (1, True), errors
        assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        run_here("train", "--data", tones, "--output", tmp_path / "out", "--reject", "1")


def test_a_recording_that_cannot_be_read(tones, cnn14, tmp_path, run_here):
    folder = shutil.copytree(tones, tmp_path / "tones")
    (folder / "5.wav").write_bytes(b"")
    options = ["--data", folder, "--model", cnn14, "--lr", "0.01", "--output", tmp_path / "out"]
    code, _, errors = run_here("train", *options)
    assert (code, "1 recordings could not be embedded" in errors, "allow it (--allow-failures)" in errors) == (
        1,
        True,
        True,
    )
    code, _, errors = run_here("train", *options, "--allow-failures")
    assert code == 0, errors
    assert sum(label.test for label in read_training(tmp_path / "out").labels) == 35


@pytest.mark.slow
def test_esc10_with_the_network_in_the_box(tmp_path):
    """Beside `hf-gar evaluate` with its three seeds, within a point."""
    data = real_folder("esc10")
    record = train_classifier("cnn14-fusion-tiny", open_task(data), tmp_path / "out", embedding=FLOAT32)
    evaluation = run_evaluation("cnn14-fusion-tiny", open_task(data), tmp_path / "evaluation", embedding=FLOAT32)
    assert record.test.value == pytest.approx(evaluation.test.mean, abs=0.01)
    check_repository(tmp_path / "out")


def test_of_several_seeds_the_one_that_validates_best_is_there(cnn14, tmp_path):
    folder = write_tones(tmp_path / "splits", column="split")
    options = {"learning_rate": "0.0003", "embedding": FLOAT32}
    alone = {
        seed: train_classifier(cnn14, open_task(folder), tmp_path / f"{seed}", seeds=[seed], **options)
        for seed in (1, 2, 3)
    }
    record = train_classifier(cnn14, open_task(folder), tmp_path / "out", seeds=[1, 2, 3], **options)
    assert record.valid == max(each.valid for each in alone.values())
    assert (record.test, record.best_epoch) == (alone[record.seed].test, alone[record.seed].best_epoch)
