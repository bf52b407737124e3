"""Publish to a local Hub with the real client, load from it as users do, and see what each failure looks like."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from huggingface_hub import HfApi, ModelCard, constants
from safetensors.torch import load_file, save_file

from hf_gar.checkpoints.download import file_digest
from hf_gar.errors import HfGarError
from hf_gar.hub.card import read_origin
from hf_gar.hub.check import check_repository
from hf_gar.hub.load import find_repository
from hf_gar.hub.push import push_repository
from hf_gar.models.pipeline_audio_embedding import AudioEmbeddingPipeline
from hf_gar.registry import MODELS
from tests.conftest import ONE_MODEL_BY_DEFAULT, relative_error, save_publishable, save_tiny_classifier, tone
from tests.hub.local_hub import LocalHub

ROOT = Path(__file__).parents[2]
REMOTE_CODE = ROOT / "tests" / "remote_code.py"
WEIGHTS = "resolve/.*model.safetensors"
# Which takes transformers 5.
HAS_SENTENCE_TRANSFORMERS = find_spec("sentence_transformers") is not None and transformers.__version__ >= "5"


@pytest.fixture
def hub(tmp_path):
    with LocalHub(tmp_path / "hub", organizations=("org", "someone")) as hub:
        yield hub


@pytest.fixture
def user(tmp_path) -> Path:
    """A user's working folder, with a recording."""
    folder = tmp_path / "user"
    folder.mkdir()
    soundfile.write(folder / "recording.wav", tone(2), 16000, subtype="FLOAT")
    return folder


@pytest.fixture
def in_this_process(hub, tmp_path, monkeypatch):
    """The client of this process talks to the local Hub; the check of the folder, tested elsewhere, is left out."""
    hub.patch(monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("hf_gar.hub.push.check_repository", lambda folder, trust_remote_code: find_repository(folder))


@pytest.fixture(scope="module")
def publishable(tmp_path_factory) -> Path:
    """One model will do for what does not differ between them."""
    return save_publishable("cnn14-fusion", tmp_path_factory.mktemp("publishable") / "cnn14")


def run(hub, folder, *arguments, **environment) -> subprocess.CompletedProcess:
    """A Python process in `folder` that talks to the local Hub, with a cache of its own."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **hub.environment(), "HF_HOME": str(folder / "cache"), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def run_push(hub, folder, *arguments, **environment) -> subprocess.CompletedProcess:
    return run(hub, folder, "-m", "hf_gar", "push", *arguments, PYTHONPATH=str(ROOT), **environment)


def load(hub, folder, repo_id, revision, **environment) -> dict[str, np.ndarray]:
    """What a user without hf_gar gets of a pinned revision: Auto classes and pipeline."""
    options = json.dumps({"revision": revision})
    done = run(hub, folder, REMOTE_CODE, repo_id, "recording.wav", "out.npz", options, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(folder / "out.npz"))


def write_second_version(repository: Path, folder: Path) -> Path:
    """The same repository with other weights."""
    shutil.copytree(repository, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    card = (folder / "README.md").read_text()
    old, new = read_origin(folder).weights_sha256, find_repository(folder).weights_sha256
    (folder / "README.md").write_text(card.replace(old, new))
    return folder


@ONE_MODEL_BY_DEFAULT
def test_push_and_load(model_type, model, extractor, hub, user, tmp_path, in_this_process):
    """Push, go on to another version, and load the first by its commit: online, then offline."""
    repository = save_publishable(model_type, tmp_path / "repository")
    repo_id = f"org/{model_type}"
    done = run_push(hub, tmp_path, repository, "--repo-id", repo_id)
    assert done.returncode == 0, done.stderr
    commit = re.search(r"\(commit ([0-9a-f]{40})\)", done.stdout)[1]
    files = hub.files(repo_id)
    assert set(files) == {path.name for path in repository.iterdir()}
    assert files["model.safetensors"] == (repository / "model.safetensors").read_bytes()
    assert push_repository(repository, repo_id).commit_sha == commit  # nothing new, no commit
    assert push_repository(write_second_version(repository, tmp_path / "second"), repo_id).commit_sha != commit

    with torch.no_grad():
        model = type(model).from_pretrained(repository)
        expected = model(**extractor(tone(2), sampling_rate=16000, return_tensors="pt")).pooler_output.numpy()
    by_pipeline = AudioEmbeddingPipeline(model=model, feature_extractor=extractor, device="cpu")(tone(2))
    found = load(hub, user, repo_id, commit)
    assert (found["clip"] == expected).all()  # bit for bit
    assert (found["pipeline"] == np.float32([by_pipeline])).all()
    asked = len(hub.requests)
    offline = load(hub, user, repo_id, commit, HF_HUB_OFFLINE="1")
    assert (offline["clip"] == expected).all()
    assert len(hub.requests) == asked


@ONE_MODEL_BY_DEFAULT
def test_the_cards_code_runs(model_type, hub, user, tmp_path, in_this_process):
    """What a card says to paste is pasted: in a new process, without hf_gar, against the Hub."""
    repository = save_publishable(model_type, tmp_path / "repository")
    push_repository(repository, "someone/small")
    card = hub.files("someone/small")["README.md"].decode()
    assert f"org/{model_type}" not in card
    assert any("validate-yaml" in request.path for request in hub.requests)  # the Hub was asked of its metadata
    assert ModelCard(card).data.pipeline_tag == "feature-extraction"
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 4
    if not HAS_SENTENCE_TRANSFORMERS:
        blocks = [block for block in blocks if "sentence_transformers" not in block]
    size = MODELS[model_type].config.from_pretrained(repository).embedding_size
    checks = f"""
assert len(embedding) == {size}
assert len(frames["embeddings"]) == len(frames["timestamps"]) > 0
assert len(dataset["embedding"][0]) == {size}
assert outputs.pooler_output.shape == (2, {size})
if {HAS_SENTENCE_TRANSFORMERS}:
    assert embeddings.shape == (2, {size})
import sys
assert "hf_gar" not in sys.modules
"""
    done = run(hub, user, "-c", "\n".join(blocks) + checks)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_push_and_load_a_classifier(model_type, classifier, extractor, hub, user, tmp_path):
    repository = save_publishable(model_type, tmp_path / "repository", save_tiny_classifier)
    repo_id = f"org/{model_type}"
    done = run_push(hub, tmp_path, repository, "--repo-id", repo_id)  # which compares the logits, too
    assert done.returncode == 0, done.stderr
    commit = re.search(r"\(commit ([0-9a-f]{40})\)", done.stdout)[1]
    found = load(hub, user, repo_id, commit)
    with torch.no_grad():
        expected = classifier(**extractor(tone(2), sampling_rate=16000, return_tensors="pt")).logits[0]
    for name in ("logits", "pipeline_logits"):
        assert relative_error(found[name], expected) < 1e-5
    assert relative_error(found["built_in_scores"], expected.softmax(0)) < 1e-5
    card = ModelCard(hub.files(repo_id)["README.md"].decode())
    assert "audio-classification" in card.data.tags
    saved = """
import sys
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
repo_id, folder = sys.argv[1:]
for each in (AutoFeatureExtractor, AutoModelForAudioClassification):
    each.from_pretrained(repo_id, trust_remote_code=True).save_pretrained(folder)
"""
    done = run(hub, user, "-c", saved, repo_id, tmp_path / "saved")
    assert done.returncode == 0, done.stderr
    for name in ("config.json", "preprocessor_config.json"):
        assert (tmp_path / "saved" / name).read_bytes() == (repository / name).read_bytes()
    weights, weights_saved = (load_file(folder / "model.safetensors") for folder in (repository, tmp_path / "saved"))
    # transformers 5.0 gives weight normalisation's tensors their old names back.
    weights_saved = {classifier.stored_name(name): weight for name, weight in weights_saved.items()}
    assert weights_saved.keys() == weights.keys()
    assert all(torch.equal(weights_saved[name], weight) for name, weight in weights.items())


@pytest.mark.slow  # two checks, each in a process
def test_altered_logits_are_not_published(tmp_path):
    repository = save_publishable("cnn14-fusion", tmp_path / "repository", save_tiny_classifier)
    check_repository(repository)
    code = repository / "modeling_classification.py"
    code.write_text(code.read_text().replace("return self.classifier(", "return 1.01 * self.classifier("))
    with pytest.raises(HfGarError, match="gives another logits than the installed"):
        check_repository(repository, trust_remote_code=True)


def test_dry_run_changes_nothing(hub, publishable, in_this_process, run_here):
    code, printed, _ = run_here("push", publishable, "--repo-id", "org/small", "--dry-run")
    assert code == 0
    assert "org/small would be created" in printed
    assert "  upload model.safetensors\n" in printed
    assert all(request.method in ("GET", "HEAD") for request in hub.requests)


def test_private_branch_and_pull_request(hub, publishable, tmp_path, in_this_process):
    push_repository(publishable, "org/small", private=True)
    assert hub.repository("org/small").private
    push_repository(publishable, "org/small", revision="next")
    assert "model.safetensors" in hub.files("org/small", "next")
    changed = Path(shutil.copytree(publishable, tmp_path / "changed"))
    with (changed / "README.md").open("a") as card:
        card.write("\nMore to read.\n")
    assert push_repository(changed, "org/small", create_pr=True).url.endswith("/discussions/1")
    assert "More to read" in hub.files("org/small", "refs/pr/1")["README.md"].decode()
    assert "More to read" not in hub.files("org/small")["README.md"].decode()


def test_something_else_there_is_not_overwritten_unless_told(hub, publishable, in_this_process):
    HfApi().create_repo("org/small")
    HfApi().upload_file(repo_id="org/small", path_or_fileobj=b'{"model_type": "bert"}', path_in_repo="config.json")
    with pytest.raises(HfGarError, match="is not a repository of a cnn14-fusion: it holds a model of the type 'bert'"):
        push_repository(publishable, "org/small")
    assert list(hub.files("org/small")) == ["config.json"]
    push_repository(publishable, "org/small", overwrite=True)
    assert "model.safetensors" in hub.files("org/small")


def test_code_that_is_no_longer_needed_is_deleted(hub, publishable, in_this_process):
    push_repository(publishable, "org/small")
    for name in ("modeling_ast_fusion.py", "notes.txt"):
        HfApi().upload_file(repo_id="org/small", path_or_fileobj=b"old", path_in_repo=name)
    assert push_repository(publishable, "org/small", dry_run=True).deleted == ("modeling_ast_fusion.py",)
    push_repository(publishable, "org/small")
    assert "modeling_ast_fusion.py" not in hub.files("org/small")
    assert "notes.txt" in hub.files("org/small")  # not ours


@pytest.mark.parametrize(
    ("kind", "fault", "message"),
    [
        ("fail", {"status": 401, "message": "Invalid credentials in Authorization header"}, "token was rejected"),
        ("fail", {"status": 403, "path": "create"}, "no right to do this"),
        ("fail", {"status": 412, "path": "commit/"}, "changed at the same time"),
        ("fail", {"status": 500, "path": "commit/"}, "run the command again"),
        ("cut", {"path": "uploads/", "after_bytes": 1000}, "run the command again"),
    ],
)
def test_a_refused_push_is_explained_and_the_next_completes(
    kind, fault, message, hub, publishable, in_this_process, monkeypatch
):
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds / 100))  # the client waits between its attempts
    getattr(hub, kind)(**{"path": "", "times": None, **fault})
    with pytest.raises(HfGarError, match=f"(?i){message}"):
        push_repository(publishable, "org/small")
    hub.heal()
    api = HfApi()
    assert not api.repo_exists("org/small") or not hub.files("org/small")  # nothing by halves
    push_repository(publishable, "org/small")
    assert "model.safetensors" in hub.files("org/small")


def test_no_token_no_network_no_name(publishable, in_this_process, monkeypatch, run_here):
    with pytest.raises(HfGarError, match="organisation/name"):
        push_repository(publishable, "small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HfGarError, match=r"could not be reached(.|\n)*HF_HUB_OFFLINE"):
        push_repository(publishable, "org/small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "")
    code, _, errors = run_here("push", publishable, "--repo-id", "org/small")
    assert code == 1
    assert "hf auth login" in errors


@pytest.mark.parametrize(
    ("kind", "fault", "message"),
    [
        ("fail", {"status": 401, "path": ""}, "token was rejected"),
        ("fail", {"status": 404, "path": "", "code": "RepoNotFound"}, "not a repository on the Hub that you can read"),
        ("fail", {"status": 429, "path": WEIGHTS, "method": "GET"}, "too many requests"),
        ("fail", {"status": 500, "path": WEIGHTS, "method": "GET"}, r"\(500\)"),
        ("cut", {"path": WEIGHTS, "after_bytes": 5000, "method": "GET"}, "run the command again"),
        ("corrupt", {"path": WEIGHTS}, "was damaged on its way"),
    ],
    ids=["401", "404", "429", "500", "cut", "corrupt"],
)
def test_a_failed_fetch_is_explained_and_the_next_completes(kind, fault, message, hub, publishable, in_this_process):
    push_repository(publishable, "org/small")
    getattr(hub, kind)(**{"times": None, **fault})
    with pytest.raises(HfGarError, match=f"(?i){message}"):
        find_repository("org/small")
    hub.heal()
    assert find_repository("org/small").weights_sha256 == find_repository(publishable).weights_sha256


def test_what_was_fetched_is_hashed_once(publishable, in_this_process, monkeypatch):
    push_repository(publishable, "org/small")
    hashed = []

    def count(path, algorithm):
        hashed.append(path.suffix or path.name)
        return file_digest(path, algorithm)

    monkeypatch.setattr("hf_gar.checkpoints.download.file_digest", count)
    monkeypatch.setattr("hf_gar.hub.load.file_digest", count)
    digest = find_repository("org/small").weights_sha256
    assert hashed == [digest]  # as the Hub's cache names the weights; the other files are named as git names them


def test_offline_with_and_without_a_filled_cache(publishable, in_this_process, monkeypatch):
    push_repository(publishable, "org/small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HfGarError, match=r"could not be reached(.|\n)*HF_HUB_OFFLINE"):
        find_repository("org/small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetched = find_repository("org/small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_repository("org/small") == fetched


def test_without_trust_transformers_asks_and_runs_nothing(hub, publishable, user, in_this_process):
    push_repository(publishable, "org/small")
    code = "from transformers import AutoModel as M; M.from_pretrained('org/small', trust_remote_code=False)"
    done = run(hub, user, "-c", code)
    assert done.returncode == 1
    assert "trust_remote_code=True" in done.stderr
    assert not list((user / "cache").rglob("modules/**/modeling_*.py"))


def altered(publishable, tmp_path) -> Path:
    return Path(shutil.copytree(publishable, tmp_path / "altered"))


def test_a_folder_that_is_no_repository(tmp_path):
    with pytest.raises(HfGarError, match="is not a model repository"):
        check_repository(tmp_path)
    with pytest.raises(HfGarError, match="is not a folder"):
        check_repository(tmp_path / "gone")


def test_altered_weights(publishable, tmp_path):
    folder = altered(publishable, tmp_path)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(HfGarError, match=r"weights .* were altered"):
        check_repository(folder)


def test_changed_code_is_named_and_not_run(publishable, tmp_path):
    folder = altered(publishable, tmp_path)
    with (folder / "chunks.py").open("a") as code:
        code.write(f"\nopen({str(tmp_path / 'was_run')!r}, 'w')\n")
    with pytest.raises(HfGarError, match=r"differs from that of the installed hf_gar: chunks.py"):
        check_repository(folder)
    assert not (tmp_path / "was_run").exists()
    check_repository(folder, trust_remote_code=True)
    assert (tmp_path / "was_run").exists()


def test_code_elsewhere_is_named(publishable, tmp_path):
    folder = altered(publishable, tmp_path)
    (folder / "deep").mkdir()
    (folder / "deep" / "helper.py").write_text("")
    with pytest.raises(HfGarError, match=r"installed hf_gar: deep/helper\.py\."):
        check_repository(folder)
    shutil.rmtree(folder / "deep")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoModel"] = "someone/else--modeling_cnn14_fusion.Cnn14FusionModel"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(HfGarError, match=r"installed hf_gar: someone/else--modeling_cnn14_fusion\."):
        check_repository(folder)


def test_modules_of_others_are_named(publishable, tmp_path):
    folder = altered(publishable, tmp_path)
    modules = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(modules.replace("module_audio_embedding.", "someone.else."))
    with pytest.raises(HfGarError, match=r"installed hf_gar: modules\.json\."):
        check_repository(folder)


def test_code_that_gives_another_embedding(publishable, tmp_path):
    folder = altered(publishable, tmp_path)
    code = (folder / "fusion.py").read_text()
    (folder / "fusion.py").write_text(
        code.replace("def tap_to_frames(", "def tap_to_frames(*a):\n    return 2 * _tap(*a)\n\n\ndef _tap(")
    )
    with pytest.raises(HfGarError, match="gives another embedding"):
        check_repository(folder, trust_remote_code=True)


def test_pickles_are_refused(publishable, tmp_path):
    folder = altered(publishable, tmp_path)
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(HfGarError, match=r"pytorch_model.bin, which can run code"):
        check_repository(folder)
