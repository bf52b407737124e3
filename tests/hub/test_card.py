import csv
import json
import re

import pytest
from huggingface_hub import EvalResult, ModelCard

from hf_gar.checkpoints.audioset_labels import audioset_labels
from hf_gar.cli import main
from hf_gar.errors import HfGarError
from hf_gar.hub.card import Origin, add_results, as_code, read_origin, render_card
from hf_gar.registry import MODELS
from tests.conftest import GOLDEN, save_publishable, save_tiny


def result(name, value) -> EvalResult:
    return EvalResult("audio-classification", name, name, "accuracy", value, metric_name="accuracy in %")


def skip_where_nothing_is_published(model_type: str) -> None:
    if MODELS[model_type].paper is None:
        pytest.skip("it is not in the paper, and has no official checkpoint; see tests/checkpoints/test_backbone.py")


def test_the_metadata(model_type):
    skip_where_nothing_is_published(model_type)
    spec = MODELS[model_type]
    official = Origin("official.pth", "ab", True, "cd")
    data = render_card(spec.config(), spec.feature_extractor(), official).data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "feature-extraction"
    assert {"audio", model_type, "custom_code"} <= set(data.tags)
    assert data.license in ("apache-2.0", "cc-by-4.0", "bsd-3-clause")
    expected = "MIT/ast-finetuned-audioset-10-10-0.4593" if model_type == "ast-fusion" else None
    assert data.base_model == expected
    # Of a checkpoint that somebody brought, nothing is claimed.
    other = render_card(spec.config(), spec.feature_extractor(), Origin("my.pth", "ab", False, "cd")).data
    assert other.license is None
    assert other.base_model is None


def test_a_classifier_is_described(model_type):
    spec = MODELS[model_type]
    origin = Origin("official.pth", "ab", True, "cd")
    names = dict(enumerate(audioset_labels()))
    for labels, norm in ((names, "layer_norm"), ({0: "dog", 1: "cat"}, None)):
        config = spec.config(id2label=labels, classifier_norm=norm)
        card = render_card(config, spec.feature_extractor(), origin, has_classifier=True)
        text = re.sub(r"\s+", " ", card.text)
        assert "audio-classification" in card.data.tags
        assert card.data.pipeline_tag == "feature-extraction"
        assert 'pipeline("audio-classification", model="org/' in text
        assert (f"| labels | {len(labels)} of AudioSet, by" in text) == (labels is names)
        assert ("by Google, under [CC BY 4.0]" in text) == (labels is names)
        assert ("but for the classifier's normalisation" in text) == (norm == "layer_norm")
        assert "\n\n\n" not in card.text
    without = render_card(spec.config(), spec.feature_extractor(), origin)
    assert "audio-classification" not in without.content
    assert "labels |" not in without.text


# The tasks as the paper's table calls them, and as a card does.
TITLES = {
    "ESC-50": "ESC-50",
    "US8K": "UrbanSound8K",
    "SPCV2": "Speech Commands V2",
    "VC1": "VoxCeleb1",
    "VF": "VoxForge",
    "CRM-D": "CREMA-D",
    "GTZAN": "GTZAN",
    "NSynth": "NSynth",
    "Surge": "Surge pitch",
}


def test_a_cards_figures_are_those_of_the_papers_table(model_type):
    """tests/golden/table3.csv is the paper's table III."""
    skip_where_nothing_is_published(model_type)
    with (GOLDEN / "table3.csv").open(newline="") as file:
        table = {row["model"]: row for row in csv.DictReader(file)}
    spec = MODELS[model_type]
    card = render_card(spec.config(), spec.feature_extractor(), Origin("official.pth", "ab", True, "cd"))
    assert card.data.eval_results is None  # nothing was measured: no model index
    found = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| not measured \|$", card.content, re.MULTILINE)
    network = {"vggish-fusion": "VGGish", "cnn14-fusion": "CNN14", "ast-fusion": "AST"}[model_type]
    assert found == [(title, table[network][task], table[f"{network}-Fusion"][task]) for task, title in TITLES.items()]
    assert "It lost on music genre (GTZAN)" in re.sub(r"\s+", " ", card.content)


def test_what_was_measured_is_added_and_replaced(model_type, tmp_path):
    skip_where_nothing_is_published(model_type)
    folder = save_publishable(model_type, tmp_path / "repository")
    origin = read_origin(folder)
    add_results(folder, [result("ESC-50", 80.1), result("my sounds", 70.2)])
    add_results(folder, [result("ESC-50", 81.5)])
    card = ModelCard.load(folder / "README.md")
    found = {one.dataset_name: one.metric_value for one in card.data.eval_results}
    assert found == {"ESC-50": 81.5, "my sounds": 70.2}
    assert re.search(r"^\| ESC-50 \| [\d.]+ \| [\d.]+ \| 81.5 \|$", card.content, re.MULTILINE)
    assert re.search(r"^\| my sounds \|  ?\|  ?\| 70.2 \|$", card.content, re.MULTILINE)
    assert read_origin(folder) == origin  # a later push still knows the weights


def test_a_folder_without_a_card(tmp_path):
    folder = save_tiny("cnn14-fusion", tmp_path / "repository")
    with pytest.raises(HfGarError, match="no card that hf_gar wrote"):
        add_results(folder, [result("ESC-50", 80.1)])


def test_the_command_takes_results_of_this_repository_only(tmp_path, capsys):
    folder = save_publishable("cnn14-fusion", tmp_path / "repository")
    evaluation = tmp_path / "evaluation"
    (evaluation / "embeddings").mkdir(parents=True)
    results = {"task": "esc50", "test": 0.9312, "metric": "accuracy", "probe": "linear", "is_complete_task": True}
    (evaluation / "results.json").write_text(json.dumps(results))
    job = {"weights_sha256": read_origin(folder).weights_sha256, "fusion_layers": [3, 6], "num_shards": 1}
    (evaluation / "embeddings" / "job.json").write_text(json.dumps(job))
    assert main(["card", str(folder), "--results", str(evaluation)]) == 0
    assert "| ESC-50 | 90.1 | 93.0 | 93.1 |" in (folder / "README.md").read_text()
    (evaluation / "embeddings" / "job.json").write_text(json.dumps({**job, "fusion_layers": [2, 5]}))
    assert main(["card", str(folder), "--results", str(evaluation)]) == 1
    assert "evaluated layers [2, 5]" in capsys.readouterr().err
    (evaluation / "embeddings" / "job.json").write_text(json.dumps(job))
    (evaluation / "results.json").write_text(json.dumps({**results, "is_complete_task": False}))
    assert main(["card", str(folder), "--results", str(evaluation)]) == 0
    assert "| esc50 (own data) |" in (folder / "README.md").read_text()
    (evaluation / "results.json").write_text(json.dumps({**results, "probe": "logistic"}))
    assert main(["card", str(folder), "--results", str(evaluation)]) == 1
    assert "not a linear evaluation" in capsys.readouterr().err
    assert main(["card", str(folder), "--results", str(tmp_path)]) == 1
    assert "holds no evaluation" in capsys.readouterr().err


NAMES = [
    "a\n# Owned\n.pth",
    "a`b``c`.pth",
    "`.pth",
    "a|b<img src=x>.pth",
    "a\u2028\u202eb.pth",
    "\udcff.pth",
    "\x1b[31m.pth",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_files_name_stays_a_name(name, tmp_path):
    """Even where a card's metadata, which anyone can write, has it."""
    folder = save_publishable("cnn14-fusion", tmp_path / "repository")
    card = ModelCard.load(folder / "README.md")
    origin = {**card.data.to_dict()["hf_gar"], "checkpoint": name}
    card.data.hf_gar = origin
    card.save(folder / "README.md")
    text = add_results(folder, [result(name, 80.1)]).text
    sound = add_results(save_publishable("cnn14-fusion", tmp_path / "sound"), [result("esc", 80.1)]).text
    assert len(text.splitlines()) == len(sound.splitlines())
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [line for line in sound.splitlines() if line.startswith("#")]
    assert not [character for character in text if not character.isprintable() and character != "\n"]
    (row,) = [line for line in text.splitlines() if line.endswith("| 80.1 |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5  # no cell more
    assert "<img" not in row.replace("\\<img", "")
    assert read_origin(folder).checkpoint == name


def test_code_is_delimited():
    assert as_code("a.pth") == "`a.pth`"
    assert as_code("a`b``c") == "``` a`b``c ```"
    assert as_code("a\nb") == "`a\\nb`"
