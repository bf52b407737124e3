"""mteb runs an audio task end to end, and its results go into a card."""

import csv
import json

import datasets
import numpy as np
import pytest
import soundfile

from hf_gar import AudioEmbedder, HfGarError
from hf_gar.cli import main
from hf_gar.hub.card import ModelCard
from hf_gar.hub.load import find_repository
from hf_gar.interop.results import read_benchmark
from hf_gar.tiny import TINY
from tests.conftest import real_folder, relative_error, save_publishable, tone

mteb = pytest.importorskip("mteb", reason="mteb is not here: pip install mteb", exc_type=ImportError)


@pytest.fixture(scope="module")
def task():
    """ESC-10 as a task of mteb: two folds to train with, one to test."""
    from mteb.abstasks.classification import AbsTaskClassification
    from mteb.abstasks.task_metadata import TaskMetadata

    folder = real_folder("esc10")
    rows = list(csv.DictReader((folder / "metadata.csv").open()))
    labels = sorted({row["label"] for row in rows})

    def part(folds: str) -> datasets.Dataset:
        kept = [row for row in rows if row["fold"] in folds]
        columns = {
            "audio": [str(folder / row["file_name"]) for row in kept],
            "label": [labels.index(row["label"]) for row in kept],
        }
        return datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio())

    class ESC10(AbsTaskClassification):
        metadata = TaskMetadata(
            name="ESC10",
            description="Ten kinds of sound",
            reference="https://github.com/karolpiczak/ESC-50",
            dataset={"path": "local/esc10", "revision": "1"},
            type="AudioClassification",
            category="a2c",
            modalities=["audio"],
            eval_splits=["test"],
            eval_langs=["zxx-Zxxx"],
            main_score="accuracy",
            date=("2015-01-01", "2015-12-31"),
            domains=["AudioScene"],
            task_subtypes=["Environment Sound Classification"],
            license="cc-by-nc-3.0",
            annotations_creators="human-annotated",
            dialect=[],
            sample_creation="found",
            bibtex_citation="",
        )
        input_column_name = "audio"
        samples_per_label = 16
        n_experiments = 2

        def load_data(self, **kwargs) -> None:
            self.dataset = datasets.DatasetDict(train=part("12"), test=part("5"))
            self.data_loaded = True

    return ESC10()


def test_a_task_end_to_end_and_into_the_card(task, tmp_path):
    from hf_gar.interop.mteb import model_meta

    repository = find_repository(TINY)
    found = mteb.evaluate(model_meta(dtype="float32"), task, cache=mteb.ResultCache(tmp_path / "cache"))
    score = found.task_results[0].get_score()
    assert score > 0.8  # ten classes; by linear evaluation 0.92
    (path,) = (tmp_path / "cache").rglob("ESC10.json")
    result = read_benchmark(path, repository)
    assert (result.dataset_name, result.metric_value) == ("ESC10 (mteb, main_score)", round(100 * score, 1))
    other = save_publishable("cnn14-fusion", tmp_path / "other")
    with pytest.raises(HfGarError, match=r"is of the weights 7b7f88e5, but .*other has"):
        read_benchmark(path, find_repository(other))


def test_what_mteb_is_told(model_type, repository, model):
    from hf_gar.interop.mteb import model_meta

    meta = model_meta(repository)
    assert meta.name == f"local/{repository.name}"
    assert meta.revision == find_repository(repository).weights_sha256
    assert (meta.embed_dim, meta.modalities) == (model.config.embedding_size, ["audio"])
    assert meta.license is None  # its weights are not the official ones


@pytest.mark.parametrize("is_decoded", [False, True])
def test_recordings_are_embedded_as_by_a_job(repository, model, extractor, tmp_path, is_decoded):
    from hf_gar.interop.mteb import model_meta

    clips = [tone(1 + index, 8000, seed=index) for index in range(3)]
    for index, clip in enumerate(clips):
        soundfile.write(tmp_path / f"{index}.wav", clip, 8000, subtype="FLOAT")
    columns = [{"array": clip, "sampling_rate": 8000} for clip in clips]
    rows = {"audio": columns if is_decoded else [str(tmp_path / f"{index}.wav") for index in range(3)]}
    dataset = datasets.Dataset.from_dict(rows)
    if not is_decoded:
        dataset = dataset.cast_column("audio", datasets.Audio())
    loader = type("Loader", (), {"dataset": dataset})  # all that is looked at of a DataLoader
    encoder = model_meta(repository, dtype="float32").load_model()
    found = encoder.encode(loader, batch_size=2)
    expected = AudioEmbedder(model, extractor).embed(columns)
    assert relative_error(found, np.stack([each.clip for each in expected])) < 1e-5


def write_results(folder):
    """Result files as the three benchmarks write them."""
    hear = folder / "esc50-v2.0.0-full" / "test.predicted-scores.json"
    folds = {f"fold0{index}": {"test_score": score, "epoch": 9} for index, score in enumerate([0.7, 0.8])}
    aggregated = {"test_score_mean": 0.75, "test_score_std": 0.07}
    single = folder / "speech_commands" / "test.predicted-scores.json"
    xares = folder / "env" / "gtzan" / "checkpoints" / "FusionEncoder" / "mlp_score.txt"
    texts = {
        hear: json.dumps({**folds, "aggregated_scores": aggregated, "hparams": {}, "score_mode": "max"}),
        single: json.dumps({"test": {"test_score": 0.875, "test_top1_acc": 0.875}, "hparams": {}}),
        xares: "0.8125\n930",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return list(texts)


def test_the_card_takes_all_of_them(tmp_path, capsys):
    folder = save_publishable("cnn14-fusion", tmp_path / "repository")
    paths = write_results(tmp_path)
    assert main(["card", str(folder), "--results", *map(str, paths)]) == 0
    card = ModelCard.load(folder / "README.md")
    rows = [line for line in card.content.splitlines() if line.startswith(("| [HEAR]", "| [X-ARES]"))]
    assert [row.rsplit(" | ", 2)[1:] for row in rows] == [
        ["esc50-v2.0.0-full, score", "75.0 |"],
        ["speech\\_commands, score", "87.5 |"],
        ["gtzan, MLP", "81.2 |"],
    ]
    assert {(each.source_name, each.metric_value) for each in card.data.eval_results} == {
        ("HEAR", 75.0),
        ("HEAR", 87.5),
        ("X-ARES", 81.2),
    }
    paths[0].write_text("{}")
    assert main(["card", str(folder), "--results", str(paths[0])]) == 1
    assert "holds no scores" in capsys.readouterr().err
