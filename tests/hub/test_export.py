import csv
import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, pipeline

from hf_gar import Cnn14FusionFeatureExtractor, HfGarError
from hf_gar.checkpoints.audioset_labels import FILE as LABELS_FILE
from hf_gar.checkpoints.audioset_labels import audioset_labels
from hf_gar.checkpoints.cnn14 import FRONT_ENDS, MEL_FILTERS, STFT
from hf_gar.checkpoints.download import file_digest
from hf_gar.cli import main
from hf_gar.hub.card import read_origin
from hf_gar.hub.export import export_repository
from hf_gar.hub.load import find_repository
from hf_gar.models.log_mel import slaney_mel_filters
from hf_gar.registry import MODELS
from tests.conftest import DATA, relative_error
from tests.golden import checkpoints

SHARED_FILES = {
    "README.md",
    "audio_integrity.py",
    "audio_loading.py",
    "config.json",
    "configuration_fusion.py",
    "feature_extraction_fusion.py",
    "feature_extraction_log_mel.py",
    "fusion.py",
    "log_mel.py",
    "model.safetensors",
    "modeling_classification.py",
    "modeling_fusion.py",
    "module_audio_embedding.py",
    "modules.json",
    "pipeline_audio_classification.py",
    "pipeline_audio_embedding.py",
    "pipeline_recordings.py",
    "preprocessor_config.json",
    "chunks.py",
}
SAVED = ("config.json", "modules.json", "preprocessor_config.json", "model.safetensors")
CLASSES = {"vggish": "VGGish", "cnn14": "Cnn14", "ast": "AST"}


@pytest.fixture(scope="module", params=CLASSES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def exported(name, official_files, tmp_path_factory):
    """The stand-in of an official file, exported with every layer by the command line."""
    output = tmp_path_factory.mktemp("exported") / name
    arguments = ["--checkpoint", str(official_files(name)), "--output", str(output), "--all-layers"]
    assert main(["export", f"{name}-fusion", *arguments]) == 0
    return output


def test_it_is_a_complete_repository(name, exported):
    own = {f"{kind}_{name}_fusion.py" for kind in ("configuration", "feature_extraction", "modeling")}
    assert {path.name for path in exported.iterdir()} == SHARED_FILES | own
    config = json.loads((exported / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": f"configuration_{name}_fusion.{CLASSES[name]}FusionConfig",
        "AutoModel": f"modeling_{name}_fusion.{CLASSES[name]}FusionModel",
        "AutoModelForAudioClassification": f"modeling_{name}_fusion.{CLASSES[name]}FusionForAudioClassification",
    }
    assert config["custom_pipelines"]["feature-extraction"]["impl"] == "pipeline_audio_embedding.AudioEmbeddingPipeline"


def load_both(folder, **options):
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True, **options)
    return extractor, partial(AutoModel.from_pretrained, folder, trust_remote_code=True, **options)


def reference_errors_vggish(folder, golden):
    extractor, load = load_both(folder)
    inputs = extractor(golden["waveform"], sampling_rate=16000, return_tensors="pt")
    yield "log_mel", inputs["input_features"][0, :288].unflatten(0, (3, 96)), golden["vggish.log_mel"]
    choices = {f"layer{layer}.clip": [layer] for layer in (1, 4, 7, 9, 12, 14, 17, 19, 21)}
    choices |= {"fusion9_14.clip": [9, 14], "original.clip": None, "original_4k.clip": [17]}
    for name, layers in choices.items():
        outputs = load(fusion_layers=layers)(**inputs)
        yield name, outputs.pooler_output[0], golden[f"vggish.{name}"]
        if layers == [9, 14]:
            yield "fusion9_14.frames", outputs.last_hidden_state[0, :12], golden["vggish.fusion9_14.frames"]
        if layers is None:
            # A patch's embedding stands in each of its six frames.
            yield "original.patches", outputs.last_hidden_state[0, ::6], golden["vggish.original.patches"]


def reference_errors_cnn14(folder, golden):
    extractor, load = load_both(folder)
    inputs = extractor(golden["waveform"], sampling_rate=16000, return_tensors="pt")
    yield "log_mel", inputs["input_features"][0], golden["cnn14.log_mel"]
    choices = {f"layer{layer}.clip": [layer] for layer in range(1, 7)}
    choices |= {"fusion3_6.clip": [3, 6], "original.clip": None}
    for name, layers in choices.items():
        outputs = load(fusion_layers=layers)(**inputs)
        yield name, outputs.pooler_output[0], golden[f"cnn14.{name}"]
        if layers == [3, 6]:
            yield "fusion3_6.frames", outputs.last_hidden_state[0], golden["cnn14.fusion3_6.frames"]


def reference_errors_ast(folder, golden):
    for length in (328, 1024, 1200):
        extractor, load = load_both(folder, max_length=length)
        inputs = extractor(golden["waveform"], sampling_rate=16000, return_tensors="pt")
        if length == 328:
            bank = inputs["input_features"][0] * 2 * extractor.std + extractor.mean
            yield "fbank", bank, golden["ast.fbank"]
        layers = load(fusion_layers=list(range(12)))(**inputs).pooler_output[0].unflatten(0, (12, -1))
        for layer, found in enumerate(layers):
            yield f"t{length}.layers[{layer}]", found, golden[f"ast.t{length}.layers"][layer]
        fused = load(fusion_layers=[4, 11])(**inputs).pooler_output[0]
        yield f"t{length}.fusion4_11.clip", fused, golden[f"ast.t{length}.fusion4_11.clip"]


def test_the_models_give_the_reference_values(name, exported, golden):
    """Front end, every layer, the fusion, its frames and the unfused embedding, through the command and AutoModel."""
    print(f"{name} against the reference, relative to the largest magnitude:")
    checks = {"vggish": reference_errors_vggish, "cnn14": reference_errors_cnn14, "ast": reference_errors_ast}[name]
    with torch.no_grad():
        errors = {check: relative_error(found, expected) for check, found, expected in checks(exported, golden)}
    for check, error in errors.items():
        print(f"  {check:22} {error:.1e}")
    checked = {key.split(".", 1)[1] for key in golden if key.startswith(f"{name}.")}
    assert checked <= {check.split("[")[0] for check in errors}  # every array of the model was compared
    assert max(errors.values()) < 1e-4


def test_only_the_fused_depth_is_stored(official_files, tmp_path):
    export_repository("cnn14-fusion", official_files("cnn14"), tmp_path / "part", fusion_layers=[2, 3])
    config = json.loads((tmp_path / "part" / "config.json").read_text())
    assert (config["depth"], config["fusion_layers"]) == (3, [2, 3])
    assert (tmp_path / "part" / "model.safetensors").stat().st_size < 6_000_000
    with pytest.raises(ValueError, match=r"layers \[6\].*depth=3"):
        AutoModel.from_pretrained(tmp_path / "part", trust_remote_code=True, fusion_layers=[2, 6])
    export_repository("vggish-fusion", official_files("vggish"), tmp_path / "vggish")
    assert (tmp_path / "vggish" / "model.safetensors").stat().st_size < 18_100_000  # of 288 MB


def test_save_load_save_is_identical(model, extractor, repository, tmp_path):
    type(model).from_pretrained(repository).save_pretrained(tmp_path / "package")
    type(extractor).from_pretrained(repository).save_pretrained(tmp_path / "package")
    AutoModel.from_pretrained(repository, trust_remote_code=True).save_pretrained(tmp_path / "remote")
    AutoFeatureExtractor.from_pretrained(repository, trust_remote_code=True).save_pretrained(tmp_path / "remote")
    for name in SAVED:
        for folder in ("package", "remote"):
            assert (tmp_path / folder / name).read_bytes() == (repository / name).read_bytes(), (folder, name)
    # What was loaded with remote code is again a repository with all its code, the pipeline's included.
    files = {path.name for path in repository.iterdir()}
    assert {path.name for path in (tmp_path / "remote").iterdir()} == files


def test_the_official_classifier(name, exported, golden):
    """On the reference implementation's own embedding, by the definition: what the official network would say."""
    config = json.loads((exported / "config.json").read_text())
    if name == "vggish":
        assert "audio-classification" not in config["custom_pipelines"]
        return
    weights = {key: value.double() for key, value in checkpoints.state_dict(name).items()}
    embedding = golden["cnn14.original.clip"] if name == "cnn14" else golden["ast.t1024.layers"][11]
    embedding = torch.from_numpy(embedding).double()
    if name == "ast":
        names = ("module.mlp_head.0.weight", "module.mlp_head.0.bias", "module.mlp_head.1.weight")
        scale, shift, weight = (weights[each] for each in names)
        bias = weights["module.mlp_head.1.bias"]
        embedding = torch.nn.functional.layer_norm(embedding, embedding.shape, scale, shift, eps=1e-6)
    else:
        weight, bias = weights["fc_audioset.weight"], weights["fc_audioset.bias"]
    expected = weight @ embedding + bias

    extractor = AutoFeatureExtractor.from_pretrained(exported, trust_remote_code=True)
    model = AutoModelForAudioClassification.from_pretrained(exported, trust_remote_code=True)
    inputs = extractor(golden["waveform"], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    print(f"{name}: logits {relative_error(logits, expected):.1e}")
    assert relative_error(logits, expected) < 1e-5
    assert relative_error(logits.sigmoid(), expected.sigmoid()) < 1e-5

    assert (len(model.config.id2label), model.config.problem_type) == (527, "multi_label_classification")
    assert (model.config.id2label[0], model.config.label2id["Field recording"]) == ("Speech", 526)
    classify = pipeline("audio-classification", model=str(exported), trust_remote_code=True, device="cpu")
    best = classify(golden["waveform"])
    ranks = expected.argsort(descending=True)[:5]
    labels = list(csv.DictReader(LABELS_FILE.open(encoding="utf-8")))
    assert [each["label"] for each in best] == [labels[index]["display_name"] for index in ranks]
    assert relative_error([each["score"] for each in best], expected.sigmoid()[ranks]) < 1e-5


def test_the_labels_are_those_that_were_published():
    if not (DATA / LABELS_FILE.name).exists():
        pytest.skip(f"the published labels are not here ({DATA / LABELS_FILE.name})")
    assert LABELS_FILE.read_bytes() == (DATA / LABELS_FILE.name).read_bytes()
    assert len(set(audioset_labels())) == 527


@pytest.mark.slow  # exports four times
def test_the_classifier_comes_along_where_the_layers_reach(official_files, tmp_path):
    cnn14 = partial(export_repository, "cnn14-fusion", official_files("cnn14"))
    for number, (options, depth, has_classifier) in enumerate(
        [
            ({}, 7, True),
            ({"with_classifier": False}, 6, False),
            ({"fusion_layers": [1]}, 1, False),
            ({"fusion_layers": [1], "depth": 7}, 7, True),
            ({"fusion_layers": [1], "with_classifier": True}, 7, True),
        ]
    ):
        repository = find_repository(cnn14(tmp_path / str(number), **options))
        assert repository.has_classifier == has_classifier
        config = repository.load_config()
        assert (config.depth, config.num_labels == 527) == (depth, has_classifier)
        assert config.fusion_layers == options.get("fusion_layers", [3, 6])
        repository.load_model()
    with pytest.raises(HfGarError, match=r"The classifier is on the layers \[7\], but .* up to depth=3"):
        cnn14(tmp_path / "out", depth=3, fusion_layers=[3], with_classifier=True)
    with pytest.raises(HfGarError, match="has no classifier, only embeddings"):
        find_repository(tmp_path / "1").load_classifier()


def test_a_checkpoint_without_a_classifier(official_files, tmp_path, run_here):
    arguments = ["--checkpoint", official_files("vggish"), "--output", tmp_path / "out"]
    code, _, errors = run_here("export", "vggish-fusion", *arguments, "--classifier")
    assert code == 1
    assert "vggish.pth has no classifier that could give labels: it is a VGGish for embeddings only" in errors
    assert not (tmp_path / "out").exists()


def test_an_output_that_holds_something_else_is_left_alone(official_files, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(HfGarError, match="exists and is not an empty folder"):
        export_repository("cnn14-fusion", official_files("cnn14"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_rate_has_to_be_the_files(official_files, tmp_path):
    with pytest.raises(HfGarError, match="is the network for 16000 Hz, not for 32000 Hz"):
        export_repository("cnn14-fusion", official_files("cnn14"), tmp_path / "a", sampling_rate=32000)


def test_the_command_says_what_was_made_and_what_is_next(official_files, tmp_path, run_here):
    output = tmp_path / "my model"
    options = ["--output", output, "--fusion-layers", 1, "--quiet"]
    code, printed, errors = run_here("export", "vggish-fusion", "--checkpoint", official_files("vggish"), *options)
    assert (code, errors) == (0, "")
    digest = read_origin(output).checkpoint_sha256
    assert printed.splitlines() == [
        f"{output} is a complete vggish-fusion repository.",
        f"Its weights are from vggish.pth (sha256 {digest[:8]}...), which is not known to be the official checkpoint.",
        f"Next: hf-gar embed RECORDINGS --model '{output}' --output embeddings",
    ]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_the_official_file_is_known_by_its_digest(official_files, tmp_path, run_here, monkeypatch, algorithm):
    path = official_files("vggish")
    spec = MODELS["vggish-fusion"]
    published = replace(spec.official_checkpoint(), digests={algorithm: file_digest(path, algorithm)})
    monkeypatch.setitem(MODELS, "vggish-fusion", replace(spec, official_checkpoints=(published,)))
    arguments = ["--checkpoint", path, "--output", tmp_path / "out", "--fusion-layers", 1]
    code, printed, _ = run_here("export", "vggish-fusion", *arguments)
    assert code == 0
    assert "Its weights are those of the official checkpoint, vggish.pth (sha256 " in printed
    assert read_origin(tmp_path / "out").is_official


@pytest.mark.parametrize("kind", [torch.int8, torch.bool])
def test_a_checkpoint_whose_weights_are_not_floats(kind, tmp_path, run_here):
    weights = checkpoints.state_dict("vggish")
    weights["features.0.bias"] = weights["features.0.bias"].to(kind)
    torch.save(weights, tmp_path / "a.pth")
    arguments = ["--checkpoint", tmp_path / "a.pth", "--output", tmp_path / "out", "--fusion-layers", 1]
    code, _, errors = run_here("export", "vggish-fusion", *arguments)
    assert code == 1
    assert f"1 not of a floating type (convolutions.1.bias {kind})" in errors
    assert not (tmp_path / "out").exists()


def test_a_checkpoints_name_with_a_line_break(official_files, tmp_path):
    path = tmp_path / "a\n# Owned\n---\n.pth"
    path.symlink_to(official_files("vggish"))
    folder = export_repository("vggish-fusion", path, tmp_path / "out", fusion_layers=[1])
    assert read_origin(folder).checkpoint == "a\\n# Owned\\n---\\n.pth"
    assert not [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("# Owned")]


def test_the_card_tells_the_models_facts(name, exported):
    card = (exported / "README.md").read_text()
    assert "pipeline_tag: feature-extraction" in card
    config = AutoConfig.from_pretrained(exported, trust_remote_code=True)
    assert f"{config.embedding_size} floats every {config.frame_hop_s} s" in card
    assert "It lost on music genre" in card
    assert "{{" not in card
    assert "{%" not in card
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        compile(block, "card", "exec")


def test_the_32_khz_network(tmp_path):
    """A stand-in of the 32 kHz file: the same network behind another front end."""
    weights = checkpoints.state_dict("cnn14")
    weights[STFT] = torch.zeros(513, 1, 1024)
    weights[MEL_FILTERS] = slaney_mel_filters(Cnn14FusionFeatureExtractor(**FRONT_ENDS[1024]).front_end)
    torch.save({"model": weights}, tmp_path / "32k.pth")
    folder = export_repository("cnn14-fusion", tmp_path / "32k.pth", tmp_path / "out", fusion_layers=[1, 3])
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    inputs = extractor(np.random.default_rng(0).normal(size=64000) * 0.1, sampling_rate=32000, return_tensors="pt")
    outputs = model(**inputs)
    assert outputs.last_hidden_state.shape == (1, 6, 4096)
    assert model.config.frame_hop_s == 0.32
    with pytest.raises(ValueError, match="32000 Hz, but sampling_rate=16000"):
        extractor(np.zeros(16000), sampling_rate=16000)
