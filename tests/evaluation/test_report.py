"""What an evaluation leaves in its folder and on the screen."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hf_gar.evaluation.evaluate import evaluate_embeddings
from hf_gar.evaluation.layer_search import search_layers
from hf_gar.evaluation.linear_probe import ProbeSettings
from hf_gar.evaluation.report import format_evaluation, format_search, write_evaluation, write_search
from tests.evaluation.synthetic import single_label_task

ABOUT = {"task": "$\\own{", "model_name": "cnn14-fusion"}
SLICES = {1: slice(0, 3), 2: slice(3, 6), 3: slice(6, 8)}
SETTINGS = ProbeSettings(max_epochs=10)
ODD_CLASSES = ("$\\frac{$", "two\nlines \x07 \x1b[31m", "日本語" * 200)


def read_json(path):
    """JSON that is JSON: no NaN."""
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def folds():
    return single_label_task(folds=4, spread=2)


@pytest.fixture(scope="module")
def search(folds):
    return search_layers(folds, SLICES, [0.01], seeds=(1, 2))


@pytest.fixture(scope="module")
def search_of_splits():
    return search_layers(single_label_task(spread=2), SLICES, [0.01], seeds=(1,), pairs="none")


def ink(path) -> float:
    return float(np.asarray(Image.open(path).convert("L")).std())


def test_classes_of_any_name(folds, tmp_path):
    task = replace(folds, classes=ODD_CLASSES)
    evaluation = evaluate_embeddings(task, [0.01], settings=SETTINGS)
    write_evaluation(tmp_path, evaluation, task, ABOUT)
    assert tuple(read_json(tmp_path / "results.json")["per_class"]) == ODD_CLASSES
    assert ink(tmp_path / "confusion.png") > 10


def test_many_classes(tmp_path):
    task = single_label_task(clips=1200, classes=100)
    write_evaluation(tmp_path, evaluate_embeddings(task, [0.01], settings=SETTINGS, seeds=[1]), task, ABOUT)
    assert ink(tmp_path / "confusion.png") > 10


def test_a_picture_that_cannot_be_drawn_costs_no_results(folds, search, tmp_path, capsys):
    for name in ("confusion.png", "layers.png", "pairs.png"):
        (tmp_path / name).mkdir()
    write_evaluation(tmp_path, evaluate_embeddings(folds, [0.01], settings=SETTINGS), folds, ABOUT)
    assert read_json(tmp_path / "results.json")["metric"] == "accuracy"
    assert len(pd.read_parquet(tmp_path / "results.parquet")) == 12
    write_search(tmp_path, search, ABOUT)
    assert read_json(tmp_path / "results.json")["best_layers"] == list(search.best)
    assert len(pd.read_parquet(tmp_path / "candidates.parquet")) == len(search.candidates)
    told = capsys.readouterr().err
    for name in ("confusion.png", "layers.png", "pairs.png"):
        assert f"{name} could not be drawn" in told
    assert told.count("The results themselves are complete.") == 3


def test_no_older_picture_stays_beside_new_results(folds, tmp_path):
    (tmp_path / "confusion.png").write_bytes(b"older")
    targets = np.eye(3, dtype=bool)[folds.targets]
    task = replace(folds, targets=targets)
    write_evaluation(tmp_path, evaluate_embeddings(task, [0.01], settings=SETTINGS, seeds=[1]), task, ABOUT)
    assert not (tmp_path / "confusion.png").exists()


def test_scores_are_printed_in_percent(folds):
    evaluation = evaluate_embeddings(folds, [0.01], settings=SETTINGS)
    printed = format_evaluation(evaluation)
    assert printed.startswith("test accuracy in %:")
    assert f"test accuracy {100 * evaluation.test.mean:.2f} % (95 % interval" in printed


def test_a_search_shows_validation_and_the_test_of_the_choice_alone(search):
    *table, best, tested = format_search(search).splitlines()
    candidates = search.candidates
    assert table[0] == (
        f"validation accuracy in %, 1 seed (1), mean of 4 folds; the best {len(candidates)} of {len(candidates)} "
        "choices:"
    )
    assert table[1].split() == ["layers", "dimension", "validation", "95", "%", "interval"]
    first = candidates.sort_values("valid", ascending=False).iloc[0]
    assert f"{100 * first['valid']:.2f}" in table[2]
    assert f"{100 * first['valid_low']:.2f} to {100 * first['valid_high']:.2f}" in table[2]
    assert "test" not in "\n".join(table)
    assert best.startswith("best by validation: layers ")
    assert tested.startswith("these, with 2 seeds (1, 2): test accuracy ")
    assert f"{100 * search.evaluation.test.mean:.2f} % (95 % interval" in tested


def test_the_files_of_a_search_say_what_its_test_scores_are_not_for(search, tmp_path):
    write_search(tmp_path, search, ABOUT)
    columns = ["layers", "stage", "dimension", "valid", "valid_low", "valid_high", "test_not_for_choosing"]
    assert list(pd.read_parquet(tmp_path / "candidates.parquet").columns) == columns
    results = read_json(tmp_path / "results.json")
    assert results["candidates_seed"] == 1
    assert list(results["candidates"][0]) == columns
    for candidate in results["candidates"]:
        assert candidate["valid_low"] <= candidate["valid"] <= candidate["valid_high"]
    for name in ("layers.png", "pairs.png"):
        assert ink(tmp_path / name) > 10


def test_one_run_has_no_interval(search_of_splits, tmp_path):
    assert search_of_splits.candidates["valid_low"].isna().all()
    write_search(tmp_path, search_of_splits, ABOUT)
    assert read_json(tmp_path / "results.json")["candidates"][0]["valid_low"] is None
    assert ink(tmp_path / "layers.png") > 10
    printed = format_search(search_of_splits)
    assert "95 %" not in printed
    assert "1 seed (1);" in printed
    assert "these, with 1 seed (1): test accuracy" in printed
