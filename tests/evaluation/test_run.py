"""From recordings to results, with tiny untrained models."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hf_gar import ASTFusionFeatureExtractor, HfGarError
from hf_gar.cli import main
from hf_gar.embedding.jobs.results import read_job
from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.evaluation import optional
from hf_gar.evaluation.embed_task import EmbeddingOptions, concatenate, embed_task, mel_frames
from hf_gar.evaluation.evaluate import evaluate_embeddings
from hf_gar.evaluation.layer_search import choose_dimensions
from hf_gar.evaluation.report import read_measurement
from hf_gar.evaluation.run import run_evaluation, run_search
from hf_gar.evaluation.task_data import open_task
from hf_gar.hub.load import find_repository
from hf_gar.registry.paper import PAPER_TASKS
from tests.conftest import save_tiny
from tests.evaluation.synthetic import single_label_task


@pytest.fixture(scope="module")
def cnn14(tmp_path_factory):
    return save_tiny("cnn14-fusion", tmp_path_factory.mktemp("model") / "cnn14")


def test_an_evaluation_from_the_command_line(tones, cnn14, tmp_path, capsys):
    command = ["evaluate", "--model", str(cnn14), "--data", str(tones), "--seconds", "1", "--lr", "0.01"]
    command += ["--dtype", "float32"]
    command += ["--seeds", "1", "2", "--output", str(tmp_path)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["test"] > 0.8
    assert f"test accuracy {100 * results['test']:.2f} %" in printed
    assert (results["task"], results["layers"], results["clips"]) == (tones.name, [3, 6], 36)
    runs = pd.read_parquet(tmp_path / "results.parquet")
    assert len(runs) == 6
    assert runs["test"].mean() == pytest.approx(results["test"])
    assert np.sum(results["confusion"]) == 72
    assert np.asarray(Image.open(tmp_path / "confusion.png").convert("L")).std() > 10  # something is drawn
    # Every clip is brought to 1 s, and embedded once.
    assert set(read_job(tmp_path / "embeddings").rows["duration_s"]) == {1.0}
    part = next((tmp_path / "embeddings").glob("part-*"))
    before = part.stat().st_mtime_ns
    assert main([*command, "--probe", "logistic"]) == 0
    assert part.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "results.json").read_text())["probe"] == "logistic"
    assert main([*command, "--fusion-layers", "2"]) == 1
    assert "holds another job: fusion_layers is [3, 6] there, [2] now" in capsys.readouterr().err
    command[command.index("--seconds") + 1] = "1.5"
    assert main(command) == 1
    assert "holds another job: crop is" in capsys.readouterr().err


def test_several_models_are_evaluated_as_one(tones, cnn14, tmp_path, capsys):
    vggish = save_tiny("vggish-fusion", tmp_path / "vggish")
    command = ["evaluate", "--data", str(tones), "--seconds", "1", "--lr", "0.01", "--seeds", "1", "--output"]
    assert main([*command, str(tmp_path / "both"), "--model", str(cnn14), "--model", str(vggish)]) == 0
    results = json.loads((tmp_path / "both" / "results.json").read_text())
    assert f"test accuracy {100 * results['test']:.2f} %" in capsys.readouterr().out
    assert (results["model"], results["model_name"]) == ([str(cnn14), str(vggish)], "cnn14-fusion + vggish-fusion")
    assert results["layers"] == [[3, 6], [9, 14]]
    parts = [read_job(tmp_path / "both" / f"embeddings-{number}").embeddings for number in (1, 2)]
    assert results["embedding_size"] == sum(part.shape[1] for part in parts)
    data = open_task(tones, seconds=1)
    alone = [embed_task(data, find_repository(each), tmp_path / f"alone-{each.name}") for each in (cnn14, vggish)]
    by_hand = replace(alone[0], embeddings=np.hstack([each.embeddings for each in alone]))
    expected = evaluate_embeddings(by_hand, [0.01], seeds=[1])
    assert results["test"] == pytest.approx(expected.test.mean)
    # A model's weight does not follow from how large its numbers are.
    scaled = replace(by_hand, embeddings=np.hstack([1000 * alone[0].embeddings, alone[1].embeddings]))
    assert evaluate_embeddings(scaled, [0.01], seeds=[1]).test.mean == pytest.approx(expected.test.mean, abs=0.03)
    with pytest.raises(HfGarError, match=r"evaluated cnn14-fusion \+ vggish-fusion together"):
        read_measurement(tmp_path / "both", find_repository(cnn14))


def test_clips_that_one_of_the_models_could_not_embed_are_left_out():
    first, second = single_label_task(clips=24), single_label_task(clips=24, dimension=3, seed=1)
    kept = np.array([5, 0, 7, 23])
    part = replace(
        second,
        embeddings=second.embeddings[kept],
        targets=second.targets[kept],
        memberships=second.memberships[kept],
        file_names=[second.file_names[index] for index in kept],
    )
    both = concatenate([first, part])
    rows = np.sort(kept)
    assert both.file_names == [f"{index}.wav" for index in rows]
    assert np.array_equal(both.embeddings, np.hstack([first.embeddings[rows], second.embeddings[rows]]))
    assert np.array_equal(both.targets, first.targets[rows])


def test_probing_from_the_command_line(tones, cnn14, tmp_path, capsys):
    command = ["probe", "--model", str(cnn14), "--data", str(tones), "--lr", "0.01", "--seeds", "1"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["searched_layers"] == [1, 2, 3, 4, 5, 6]
    layers = " + ".join(map(str, results["best_layers"]))
    out, err = capsys.readouterr()
    assert f"best by validation: layers {layers}, dimension {results['dimension']}" in out
    assert "Searching layers: " in err
    count = len(results["candidates"])
    assert f"{count}/{count}" in err
    assert "best so far: " in err
    candidates = pd.read_parquet(tmp_path / "candidates.parquet")
    assert (candidates["stage"].value_counts()[["layer", "pair"]] == [6, 15]).all()
    for name in ("layers.png", "pairs.png"):
        assert np.asarray(Image.open(tmp_path / name).convert("L")).std() > 10


@pytest.mark.parametrize(
    ("options", "progress"),
    [([], "Training 6 linear classifiers: 100%"), (["--probe", "logistic"], "Fitting logistic regressions: 100%")],
)
def test_the_progress_of_an_evaluation_is_shown(options, progress, tones, cnn14, tmp_path, capsys):
    command = ["evaluate", "--model", str(cnn14), "--data", str(tones), "--seeds", "1", "2", "--output", str(tmp_path)]
    assert main([*command, "--lr", "0.01", *options]) == 0
    out, err = capsys.readouterr()
    assert progress in err
    assert "%|" not in out
    epochs = pd.read_parquet(tmp_path / "results.parquet")["epochs"].max()
    assert f"{epochs}/{epochs}" in err or options


def test_only_tasks_of_the_paper_are_complete_or_not(tones, cnn14, tmp_path):
    options = {"seeds": [1], "learning_rate": "0.01"}
    own = open_task(tones, seconds=1)
    run_evaluation(cnn14, own, tmp_path / "own", **options)
    paper = open_task(tones, "esc50", allow_other_counts=True)
    run_evaluation(cnn14, paper, tmp_path / "part", **options)
    repository = find_repository(cnn14)
    for folder, is_complete, name in [("own", None, f"{tones.name} (own data)"), ("part", False, "esc50 (own data)")]:
        assert json.loads((tmp_path / folder / "results.json").read_text())["is_complete_task"] is is_complete
        assert read_measurement(tmp_path / folder, repository).dataset_name == name
    run_evaluation(cnn14, replace(paper, is_complete=True), tmp_path / "part", **options)
    assert json.loads((tmp_path / "part" / "results.json").read_text())["is_complete_task"] is True
    assert read_measurement(tmp_path / "part", repository).dataset_name == PAPER_TASKS["esc50"]


def test_labels_of_any_text(tones, cnn14, tmp_path, capsys):
    table = pd.read_csv(tones / "metadata.csv")
    labels = {"300 Hz": "$\\frac{$", "1000 Hz": "two\nlines \x07", "3000 Hz": "音" * 300}
    table = table.assign(label=table["label"].map(labels), file_name=[str(tones / name) for name in table["file_name"]])
    table.to_csv(tmp_path / "odd.csv", index=False)
    for command in (["evaluate"], ["probe", "--pairs", "none"]):
        output = tmp_path / command[0]
        options = ["--model", str(cnn14), "--data", str(tmp_path / "odd.csv"), "--seeds", "1", "--output", str(output)]
        assert main([*command, *options, "--lr", "0.01"]) == 0
        assert "could not be drawn" not in capsys.readouterr().err
        assert set(json.loads((output / "results.json").read_text())["per_class"]) == set(labels.values())
    assert (tmp_path / "evaluate" / "confusion.png").exists()
    assert (tmp_path / "probe" / "pairs.png").exists()


def test_one_pass_gives_every_layers_embedding(tones, repository, model, tmp_path):
    data = open_task(tones, seconds=1)
    layers = [layer for layer in model.config.valid_layers if layer <= model.config.depth]
    task = embed_task(data, find_repository(repository), tmp_path / "all", model_kwargs={"fusion_layers": layers})
    slices = layer_slices(type(model.config)(**{**model.config.to_dict(), "fusion_layers": layers}))
    for layer in (layers[0], layers[-2]):
        alone = embed_task(
            data, find_repository(repository), tmp_path / str(layer), model_kwargs={"fusion_layers": [layer]}
        )
        found = choose_dimensions(task, slices, [layer]).embeddings
        np.testing.assert_allclose(found, alone.embeddings, rtol=1e-4, atol=1e-5 * np.abs(alone.embeddings).max())


def test_ast_runs_at_the_tasks_length(tones, tmp_path):
    repository = save_tiny("ast-fusion", tmp_path / "ast")
    embed_task(open_task(tones, seconds=1), find_repository(repository), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "job.json").read_text())["max_length"] == 98
    assert mel_frames(30, ASTFusionFeatureExtractor()) == 2998


def test_recordings_that_cannot_be_embedded(tones, cnn14, tmp_path):
    table = pd.read_csv(tones / "metadata.csv")
    bad = table.replace("5.wav", "gone.wav").assign(file_name=lambda rows: str(tones) + "/" + rows["file_name"])
    bad.to_csv(tmp_path / "bad.csv", index=False)
    data = open_task(tmp_path / "bad.csv")
    with pytest.raises(HfGarError, match=r"1 recordings could not be embedded: see .*errors\.jsonl"):
        run_evaluation(cnn14, data, tmp_path / "out")
    run_evaluation(
        cnn14,
        data,
        tmp_path / "out",
        embedding=EmbeddingOptions(allow_failures=True),
        seeds=[1],
        learning_rate="0.01",
    )
    assert json.loads((tmp_path / "out" / "results.json").read_text())["clips"] == 35


def test_another_split_or_source_of_the_same_names_is_refused(tones, cnn14, tmp_path):
    data = open_task(tones, seconds=1)
    split = data.dataset.remove_columns("fold").add_column("split", ["train"] * 18 + ["valid"] * 9 + ["test"] * 9)
    data = replace(data, dataset=split)
    embed_task(data, find_repository(cnn14), tmp_path / "out")
    moved = split.remove_columns("split").add_column("split", ["test"] * 9 + ["valid"] * 9 + ["train"] * 18)
    with pytest.raises(HfGarError, match="was made with another split of the same recordings"):
        embed_task(replace(data, dataset=moved), find_repository(cnn14), tmp_path / "out")
    with pytest.raises(HfGarError, match="holds another job: source is"):
        embed_task(replace(data, source="elsewhere"), find_repository(cnn14), tmp_path / "out")


def test_mended_recordings_are_tried_again(tones, cnn14, tmp_path):
    shutil.copytree(tones, tmp_path / "tones")
    (tmp_path / "tones" / "5.wav").write_bytes(b"")
    data = open_task(tmp_path / "tones", seconds=1)
    with pytest.raises(HfGarError, match="1 recordings could not be embedded"):
        embed_task(data, find_repository(cnn14), tmp_path / "out")
    shutil.copy(tones / "5.wav", tmp_path / "tones" / "5.wav")
    assert len(embed_task(data, find_repository(cnn14), tmp_path / "out").embeddings) == 36


@pytest.mark.parametrize("run", [run_evaluation, run_search])
def test_missing_libraries_are_told_before_the_work(run, tones, cnn14, tmp_path, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}")

    monkeypatch.setattr(optional, "import_module", missing)
    with pytest.raises(ImportError, match=r'matplotlib is missing: pip install "hf_gar\[evaluation\]"'):
        run(cnn14, open_task(tones), tmp_path / "out")
    assert not (tmp_path / "out").exists()
