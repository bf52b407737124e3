"""The registry: what derives from it, and a fourth model with which everything works, nothing else edited."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard, constants

import hf_gar
from hf_gar import ASTFusionConfig, ASTFusionFeatureExtractor, read_job
from hf_gar.cli import main
from hf_gar.evaluation.tasks import LEARNING_RATE, TASKS
from hf_gar.hub.card import Origin, read_origin, render_card, template_folder
from hf_gar.hub.load import find_repository
from hf_gar.registry import MODELS
from tests.conftest import relative_error, save_tiny, tone
from tests.hub.local_hub import LocalHub
from tests.toy_fusion import HUB_FILE, PACKAGE, TOY

REMOTE_CODE = Path(__file__).with_name("remote_code.py")


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_what_a_spec_names_is_there(spec):
    assert spec.config.model_type == spec.feature_extractor.model_type == spec.model_type
    assert spec.model.config_class is spec.classifier.config_class is spec.config
    assert spec.classifier.backbone_class is spec.model
    assert callable(spec.convert)
    assert (template_folder() / spec.card_template).is_file()
    if spec.paper is None:
        return
    assert spec.config().fusion_layers == list(spec.paper.fusion_layers)
    assert {*spec.paper.fused.learning_rates, *spec.paper.unfused.learning_rates} <= TASKS.keys()


def test_the_classes_are_exported():
    classes = {
        each for spec in MODELS.values() for each in (spec.config, spec.feature_extractor, spec.model, spec.classifier)
    }
    assert {each.__name__ for each in classes} < set(hf_gar.__all__)
    for name in hf_gar.__all__:
        assert getattr(hf_gar, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Cnn15FusionModel'"):
        hf_gar.Cnn15FusionModel  # noqa: B018


def test_the_registry_imports_no_torch():
    code = "import sys, hf_gar.registry; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_the_last_block_of_ast_alone_is_its_unfused_embedding(recordings, tmp_path, run_here):
    """However it is asked for: None or its number."""
    by_none, by_number = ASTFusionConfig(fusion_layers=None), ASTFusionConfig(fusion_layers=[11])
    for config in (by_none, by_number):
        assert config.is_unfused
        assert config.layer_choice is None
        assert MODELS["ast-fusion"].variant_name(config.is_unfused) == "ast"
        assert TASKS["surge"].learning_rate(config) == 0.0001
    cards = [
        render_card(config, ASTFusionFeatureExtractor(), Origin("ast.pth", "ab", True, "cd")).text
        for config in (by_none, by_number)
    ]
    assert cards[0] == cards[1]
    assert "\n# AST\n" in cards[0]
    assert not ASTFusionConfig(fusion_layers=[10, 11]).is_unfused

    repository = save_tiny("ast-fusion", tmp_path / "ast")  # of four blocks
    command = ["embed", recordings, "--model", repository, "--output", tmp_path / "job"]
    assert run_here(*command, "--unfused")[0] == 0
    assert "all are done" in run_here(*command, "--fusion-layers", 3)[2]
    assert "layers unfused" in run_here("status", tmp_path / "job")[1]


# A fourth model


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Install the toy's hub files, and add it to the registry: all that there is to do."""
    folder = tmp_path_factory.mktemp("installed") / PACKAGE
    shutil.copytree(Path(hf_gar.__file__).parent / "models", folder, ignore=shutil.ignore_patterns("__*__*"))
    shutil.copy(HUB_FILE, folder)
    (folder / "__init__.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder.parent)
        patch.setitem(MODELS, TOY.model_type, TOY)
        yield TOY
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "toy.pth"
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv1.weight": (4, 1, 1, 3), "conv2.weight": (4, 4, 1, 3)}
    torch.save({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, path)
    return path


@pytest.fixture(scope="module")
def repository(toy, checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "toy"
    assert main(["export", "toy-fusion", "--checkpoint", str(checkpoint), "--output", str(folder)]) == 0
    return folder


def test_a_fourth_model_is_exported(toy, repository, checkpoint):
    assert {"toy_fusion.py", "modeling_fusion.py", "config.json", "README.md"} <= {
        path.name for path in repository.iterdir()
    }
    assert not read_origin(repository).is_official
    found = find_repository(repository).load_model().convolutions[1].weight
    assert torch.equal(found, torch.load(checkpoint, weights_only=True)["conv2.weight"])
    assert hf_gar.ToyFusionModel is toy.model


def test_its_official_checkpoint_is_refused(toy, tmp_path, run_here):
    code, _, errors = run_here("export", "toy-fusion", "--checkpoint", "official", "--output", tmp_path / "out")
    assert code == 1
    assert "No official checkpoint of toy-fusion is known: pass the path of one that you have (--checkpoint)" in errors
    assert not (tmp_path / "out").exists()


def test_its_card_says_what_is_known_of_it(repository):
    card = ModelCard.load(repository / "README.md")
    assert "\n# Toy-Fusion #1+#2\n" in card.content
    assert "General-purpose audio embeddings: Toy, with the outputs of its layers #1+#2 fused" in card.content
    assert not re.search(r"\(paper\)|official|YouTube|\{\{|\{%|\n\n\n", card.text)
    assert (card.data.license, card.data.datasets, card.data.base_model) == (None, None, None)
    for block in re.findall(r"```python\n(.*?)```", card.content, re.DOTALL):
        compile(block, "card", "exec")


def test_its_code_runs_without_hf_gar(repository, tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(2), 16000, subtype="FLOAT")
    command = [sys.executable, REMOTE_CODE, repository, tmp_path / "a.wav", tmp_path / "out.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(tmp_path / "out.npz")
    assert found["clip"].shape == (1, 128)
    installed = find_repository(repository)
    inputs = installed.load_feature_extractor()(tone(2), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = installed.load_model()(**inputs).pooler_output
    for name in ("clip", "pipeline"):
        assert relative_error(found[name], expected) < 1e-6


def test_it_embeds(repository, recordings, tmp_path, run_here):
    command = ["embed", recordings, "--model", repository, "--output", tmp_path / "job"]
    assert run_here(*command)[:2] == (0, f"6 recordings embedded in {tmp_path / 'job'}.\n")
    assert read_job(tmp_path / "job").embeddings.shape == (6, 128)


def test_it_is_evaluated(repository, tones, tmp_path, run_here):
    command = ["--data", tones, "--seconds", 1, "--seeds", 1, "--model", repository]
    assert run_here("evaluate", *command, "--output", tmp_path / "evaluation")[0] == 0
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert (results["model_name"], results["learning_rate"]) == ("toy-fusion", LEARNING_RATE)
    assert run_here("evaluate", *command, "--unfused", "--lr", 0.01, "--output", tmp_path / "unfused")[0] == 0
    assert json.loads((tmp_path / "unfused" / "results.json").read_text())["model_name"] == "toy"
    assert run_here("probe", *command, "--lr", 0.01, "--output", tmp_path / "layers")[0] == 0
    assert json.loads((tmp_path / "layers" / "results.json").read_text())["searched_layers"] == [1, 2]

    carded = Path(shutil.copytree(repository, tmp_path / "carded"))
    assert run_here("card", carded, "--results", tmp_path / "evaluation")[0] == 0
    (row,) = re.findall(r"^\| .* \(own data\) \|.*$", (carded / "README.md").read_text(), re.MULTILINE)
    assert row == f"| {tones.name} (own data) | {100 * results['test']:.1f} |"


def test_it_is_pushed(repository, tmp_path, monkeypatch, run_here):
    changed = Path(shutil.copytree(repository, tmp_path / "changed"))
    with (changed / "toy_fusion.py").open("a") as code:
        code.write("\n# changed\n")
    with LocalHub(tmp_path / "hub", organizations=("org",)) as hub:
        hub.patch(monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        code, _, errors = run_here("push", changed, "--repo-id", "org/toy")
        assert code == 1
        assert "differs from that of the installed hf_gar: toy_fusion.py" in errors
        code, printed, errors = run_here("push", repository, "--repo-id", "org/toy")
        assert code == 0, errors
        assert f"{repository} is at {hub.endpoint}/org/toy" in printed
        assert set(hub.files("org/toy")) == {path.name for path in repository.iterdir()}
