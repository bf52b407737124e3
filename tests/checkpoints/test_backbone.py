"""Repositories of transformers' audio networks, exported: what is read of them, what is refused, what the card says."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import load_file, save_file
from transformers import BertConfig, EncodecConfig, EncodecFeatureExtractor, EncodecModel

from hf_gar import HfGarError
from hf_gar.checkpoints.backbone import convert_backbone
from hf_gar.hub.card import read_origin
from hf_gar.hub.check import check_repository
from hf_gar.hub.export import export_repository
from hf_gar.hub.load import find_repository
from tests.conftest import relative_error, tone
from tests.hub.local_hub import LocalHub
from tests.tiny_backbones import save_backbone

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A Wav2Vec2 with a head for speech recognition."""
    folder = tmp_path_factory.mktemp("saved") / "wav2vec2"
    save_backbone("wav2vec2 layer", folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copied"))


def embedding(folder: Path) -> torch.Tensor:
    repository = find_repository(folder)
    inputs = repository.load_feature_extractor()(tone(1), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        return repository.load_model()(**inputs).pooler_output


@pytest.fixture(scope="module")
def expected(saved, tmp_path_factory) -> torch.Tensor:
    folder = tmp_path_factory.mktemp("exported") / "out"
    export_repository("backbone-fusion", saved, folder)
    return embedding(folder)


def test_the_command(saved, tmp_path, run_here, expected):
    command = ["export", "backbone-fusion", "--checkpoint", saved, "--output"]
    code, printed, _ = run_here(*command, tmp_path / "out")
    assert code == 0
    assert "Not in it: lm_head, wav2vec2.masked_spec_embed." in printed
    assert torch.equal(embedding(tmp_path / "out"), expected)
    check_repository(tmp_path / "out")
    assert run_here(*command, tmp_path / "chosen", "--fusion-layers", 0, 2)[0] == 0
    config = find_repository(tmp_path / "chosen").load_config()
    assert (config.fusion_layers, config.depth, config.unfused_layer) == ([0, 2], 2, 3)
    assert run_here(*command, tmp_path / "all", "--fusion-layers", 1, "--all-layers")[0] == 0
    assert find_repository(tmp_path / "all").load_config().depth == 3
    assert run_here(*command, tmp_path / "unfused", "--unfused")[0] == 0
    assert find_repository(tmp_path / "unfused").load_config().is_unfused
    code, _, errors = run_here("export", "backbone-fusion", "--checkpoint", "official", "--output", tmp_path / "no")
    assert code == 1
    assert "No official checkpoint of backbone-fusion is known" in errors


def test_a_repository_on_the_hub_is_named_on_the_card(copied, tmp_path, monkeypatch, run_here, expected):
    (copied / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# a speech network\n")
    with LocalHub(tmp_path / "hub") as hub:
        hub.patch(monkeypatch)
        HfApi().create_repo("acme/speech")
        commit = HfApi().upload_folder(repo_id="acme/speech", folder_path=copied).oid
        code, printed, errors = run_here(
            "export", "backbone-fusion", "--checkpoint", "acme/speech", "--output", tmp_path / "out"
        )
    assert code == 0, errors
    assert f"Its weights are those of acme/speech at {commit}, model.safetensors" in printed
    assert relative_error(embedding(tmp_path / "out"), expected) == 0
    origin = read_origin(tmp_path / "out")
    assert (origin.base_model, origin.revision, origin.license) == ("acme/speech", commit, "cc-by-nc-4.0")
    assert origin.dropped == ["lm_head", "wav2vec2.masked_spec_embed"]
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.base_model, card.data.license) == ("acme/speech", "cc-by-nc-4.0")
    assert "# Wav2Vec2-Fusion #1+#3\n" in card.content
    assert "[acme/speech](https://huggingface.co/acme/speech)" in card.content
    assert f"the revision `{commit}`" in card.content
    assert "these parts are not here: `lm_head`, `wav2vec2.masked_spec_embed`." in card.content


def test_weights_in_shards(saved, tmp_path, expected):
    save_backbone("wav2vec2 layer", tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    export_repository("backbone-fusion", tmp_path / "shards", tmp_path / "out")
    assert torch.equal(embedding(tmp_path / "out"), expected)


def test_older_files(copied, tmp_path, expected):
    """Weight normalisation as PyTorch called it before, and a feature extractor that does not name its class."""
    weights = load_file(copied / WEIGHTS)
    names = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
    for new, old in names.items():
        for name in [name for name in weights if name.endswith(new)]:
            weights[name.removesuffix(new) + old] = weights.pop(name)
    assert any(name.endswith("weight_g") for name in weights)
    save_file(weights, copied / WEIGHTS, metadata={"format": "pt"})
    fields = json.loads((copied / "preprocessor_config.json").read_text())
    del fields["feature_extractor_type"]
    (copied / "preprocessor_config.json").write_text(json.dumps(fields))
    export_repository("backbone-fusion", copied, tmp_path / "out")
    assert torch.equal(embedding(tmp_path / "out"), expected)


def test_a_processor_as_transformers_5_writes_it(copied, tmp_path, expected):
    fields = json.loads((copied / "preprocessor_config.json").read_text())
    (copied / "preprocessor_config.json").unlink()
    (copied / "processor_config.json").write_text(json.dumps({"feature_extractor": fields}))
    export_repository("backbone-fusion", copied, tmp_path / "out")
    assert torch.equal(embedding(tmp_path / "out"), expected)


def alter(path: Path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_what_has_code_of_its_own_is_refused(copied):
    alter(copied / "config.json", auto_map={"AutoModel": "modeling.Evil"})
    (copied / "modeling.py").write_text("raise SystemExit('it was run')\n")
    with pytest.raises(HfGarError, match=r"names code of its own \(auto_map\), which is never run"):
        convert_backbone(copied)


def test_other_networks_are_refused_by_name(copied, tmp_path):
    BertConfig().save_pretrained(copied)
    with pytest.raises(
        HfGarError, match=r"of a 'bert', which BackboneFusion does not take\. It takes audio-spectrogram"
    ):
        convert_backbone(copied)
    EncodecModel(EncodecConfig(num_filters=2, hidden_size=8, codebook_size=8)).save_pretrained(tmp_path / "encodec")
    EncodecFeatureExtractor().save_pretrained(tmp_path / "encodec")
    with pytest.raises(HfGarError, match="of a 'encodec', which BackboneFusion does not take"):
        convert_backbone(tmp_path / "encodec")
    with pytest.raises(HfGarError, match="is not a folder"):
        convert_backbone(copied / WEIGHTS)


def test_pickled_weights_are_refused(copied):
    torch.save(load_file(copied / WEIGHTS), copied / "pytorch_model.bin")
    (copied / WEIGHTS).unlink()
    with pytest.raises(HfGarError, match=r"has no model\.safetensors: only safetensors are read"):
        convert_backbone(copied)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/model.safetensors", 5])
def test_shards_elsewhere_are_refused(copied, name):
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(HfGarError, match="does not list the files of this repository"):
        convert_backbone(copied)


def test_every_weight_is_accounted_for(copied):
    weights = load_file(copied / WEIGHTS)
    first = "wav2vec2.encoder.layers.0.attention.k_proj.weight"
    for other in (
        {name: weight for name, weight in weights.items() if name != first},
        {**weights, "wav2vec2.encoder.layers.9.attention.k_proj.weight": torch.zeros(24, 24)},
        {**weights, "wav2vec2.encoder.extra": torch.zeros(2)},
    ):
        save_file(other, copied / WEIGHTS, metadata={"format": "pt"})
        with pytest.raises(HfGarError, match=r"not a complete checkpoint of a Wav2Vec2Model"):
            convert_backbone(copied)
    save_file({**weights, "other_head.weight": torch.zeros(2)}, copied / WEIGHTS, metadata={"format": "pt"})
    assert "other_head" in convert_backbone(copied).dropped


def test_a_weight_of_another_shape_is_named(copied, tmp_path):
    weights = load_file(copied / WEIGHTS)
    weights["wav2vec2.encoder.layers.0.attention.k_proj.weight"] = torch.zeros(24, 23)
    save_file(weights, copied / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(HfGarError, match=r"of another shape \(network\.encoder\.layers\.0\.attention\.k_proj\.weight"):
        export_repository("backbone-fusion", copied, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_feature_extractor_that_does_not_fit_is_named(tmp_path):
    save_backbone("whisper", tmp_path / "whisper")
    alter(tmp_path / "whisper" / "preprocessor_config.json", chunk_length=30)
    with pytest.raises(HfGarError, match="fixed length, of 400 time steps, not 3000"):
        convert_backbone(tmp_path / "whisper")


def test_only_the_audio_tower_of_clap_is_kept(tmp_path):
    save_backbone("clap", tmp_path / "clap")
    converted = convert_backbone(tmp_path / "clap")
    assert all(name.startswith("network.audio_encoder.") for name in converted.state_dict)
    assert {"text_model", "audio_projection", "text_projection"} <= set(converted.dropped)
    assert converted.config["backbone_config"]["model_type"] == "clap_audio_model"
