"""Shared fixtures: small untrained models, recordings, the reference values and the real recordings."""

import os

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hf_gar import AudioEmbedder, AudioTagger
from hf_gar.cli import main
from hf_gar.embedding.jobs.job_folder import JobStatus
from hf_gar.embedding.jobs.local_engine import LocalEngine
from hf_gar.embedding.jobs.run import JobOptions, run_job
from hf_gar.embedding.sources.source import Source, open_source
from hf_gar.hub.card import CARD_FILE, Origin, render_card
from hf_gar.hub.load import find_repository
from hf_gar.models import FusionFeatureExtractor, FusionForAudioClassification, FusionModel
from hf_gar.registry import MODELS
from tests import tiny_backbones
from tests.golden import checkpoints

GOLDEN = Path(__file__).parent / "golden"
DATA = Path(__file__).parents[2] / "shared" / "data"

# Small networks: the arguments of each model's configuration and feature extractor.
TINY: dict[str, tuple[dict, dict]] = {
    "vggish-fusion": (
        {"channels": [4, 4, 8, 8, 8, 8], "hidden_sizes": [32, 32, 8], "num_mel_bins": 32, "depth": 21},
        {"feature_size": 32},
    ),
    "ast-fusion": (
        {
            "hidden_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "intermediate_size": 48,
            "num_mel_bins": 32,
            "fusion_layers": [1, 3],
            "depth": 3,
            "max_length": 1200,
        },
        {"feature_size": 32, "max_length": 1200},
    ),
    "cnn14-fusion": (
        {"channels": [4, 4, 8, 8, 8, 16], "num_mel_bins": 32, "depth": 7},
        {"feature_size": 32},
    ),
    "backbone-fusion": (
        {"backbone_config": {"model_type": "wav2vec2", **tiny_backbones.LAYER}, "fusion_layers": [1, 3], "depth": 3},
        {"frame_window": 1240, "frame_hop": 800},
    ),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no GPU here that CUDA runs on")


def build_tiny(model_type: str, **config) -> FusionModel:
    """A small model in evaluation mode, its normalisations' statistics and all else random but fixed."""
    spec = MODELS[model_type]
    torch.manual_seed(0)
    model = spec.model(spec.config(**{**TINY[model_type][0], **config}))
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                parameter.uniform_(0.5, 2)
            elif parameter.ndim == 1:
                parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return model.eval()


def build_overflowing(model_type: str) -> FusionModel:
    """A model whose weights are finite, but too large for its outputs to be."""
    model = build_tiny(model_type)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 or name.startswith("norm."):  # of AST, what the last normalisation multiplies by
                parameter.mul_(1e36)
    return model


def build_tiny_extractor(model_type: str) -> FusionFeatureExtractor:
    return MODELS[model_type].feature_extractor(**TINY[model_type][1])


def tone(seconds: float, sampling_rate: int = 16000, seed: int = 0) -> np.ndarray:
    return checkpoints.waveform(seconds, seed=seed, sampling_rate=sampling_rate)


def relative_error(found: np.ndarray | torch.Tensor, expected: np.ndarray | torch.Tensor) -> float:
    """The largest difference, relative to the expected array's largest magnitude."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# It passes the tests of all models, but has its own, of more kinds of networks, which run by default.
MODEL_TYPES = [
    pytest.param(name, marks=pytest.mark.slow) if name == "backbone-fusion" else name for name in sorted(TINY)
]


@pytest.fixture(params=MODEL_TYPES, scope="session")
def model_type(request) -> str:
    return request.param


# For tests with several processes each, which import PyTorch.
ONE_MODEL_BY_DEFAULT = pytest.mark.parametrize(
    "model_type",
    [pytest.param(name, marks=[] if name == "cnn14-fusion" else pytest.mark.slow) for name in sorted(TINY)],
    indirect=True,
)


@pytest.fixture(scope="session")
def model(model_type) -> FusionModel:
    return build_tiny(model_type)


@pytest.fixture(scope="session")
def extractor(model_type) -> FusionFeatureExtractor:
    return build_tiny_extractor(model_type)


def save_tiny(model_type: str, folder: Path) -> Path:
    """Write a model repository of a small model, every layer in it."""
    build_tiny(model_type).save_pretrained(folder)
    build_tiny_extractor(model_type).save_pretrained(folder)
    return folder


LABELS = ["dog", "rain", "baby", "clock"]


def build_tiny_classifier(model_type: str, labels: Sequence[str] = LABELS, **config) -> FusionForAudioClassification:
    """A small model with a classifier on its fused layers, in evaluation mode, all of it random but fixed."""
    spec = MODELS[model_type]
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    classifier = spec.classifier(spec.config(**{**TINY[model_type][0], **names, **config}))
    fused = {"fusion_layers": classifier.backbone.config.fusion_layers, "depth": classifier.config.depth}
    classifier.backbone.load_state_dict(build_tiny(model_type, **{**config, **fused}).state_dict())
    torch.manual_seed(1)
    with torch.no_grad():
        classifier.classifier.weight.normal_()
        classifier.classifier.bias.normal_()
        if isinstance(classifier.classifier_norm, torch.nn.BatchNorm1d):
            classifier.classifier_norm.running_mean.normal_()
            classifier.classifier_norm.running_var.uniform_(0.5, 2)
    return classifier.eval()


def save_tiny_classifier(model_type: str, folder: Path, **config) -> Path:
    """Write a model repository of a small model with a classifier, every layer in it."""
    build_tiny_classifier(model_type, **config).save_pretrained(folder)
    build_tiny_extractor(model_type).save_pretrained(folder)
    return folder


def save_publishable(model_type: str, folder: Path, save: Callable[[str, Path], Path] = save_tiny) -> Path:
    """Write a small model's repository with its card, as `hf-gar export` does."""
    save(model_type, folder)
    origin = Origin("tiny.pth", "0" * 64, False, find_repository(folder).weights_sha256)
    spec = MODELS[model_type]
    config, extractor = spec.config.from_pretrained(folder), spec.feature_extractor.from_pretrained(folder)
    render_card(config, extractor, origin, save is save_tiny_classifier).save(folder / CARD_FILE)
    return folder


SOURCE_OPTIONS = {"revision", "config_name", "split", "path_column", "streaming", "audiofolder", "limit"}
JOB_OPTIONS = {"num_shards", "shard", "strict", "retry_failed"}


def embed_job(source, model, output, *, devices=(), workers=None, dtype="float32", **options) -> JobStatus:
    """Run an embedding job, in float32, where batches make no difference."""
    return _job(AudioEmbedder, source, model, output, devices, workers, dtype, options)


def tag_job(source, model, output, *, devices=(), workers=None, dtype="float32", **options) -> JobStatus:
    """Run a tagging job, in float32, where batches make no difference."""
    return _job(AudioTagger, source, model, output, devices, workers, dtype, options)


def _job(function_class, source, model, output, devices, workers, dtype, options) -> JobStatus:
    of_source = {name: options.pop(name) for name in SOURCE_OPTIONS & options.keys()}
    of_job = {name: options.pop(name) for name in JOB_OPTIONS & options.keys()}
    opened = source if isinstance(source, Source) else open_source(source, **of_source)
    engine = LocalEngine(tuple(devices), workers)
    return run_job(opened, function_class(model, dtype=dtype, **options), output, JobOptions(engine=engine, **of_job))


@pytest.fixture(scope="session")
def repository(model_type, tmp_path_factory) -> Path:
    return save_tiny(model_type, tmp_path_factory.mktemp("repository") / model_type)


@pytest.fixture(scope="session")
def classifier(model_type) -> FusionForAudioClassification:
    return build_tiny_classifier(model_type)


@pytest.fixture(scope="session")
def classifier_repository(model_type, tmp_path_factory) -> Path:
    return save_tiny_classifier(model_type, tmp_path_factory.mktemp("classifier") / model_type)


@pytest.fixture
def run_here(capfd):
    """Run `hf-gar` in this process, which need not import everything; gives exit code, output and error output."""

    def run(*arguments) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(list(map(str, arguments)))
        return code, *capfd.readouterr()

    return run


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "golden_seed0.npz"))


@pytest.fixture(scope="session")
def official_files(tmp_path_factory):
    """A function that writes a stand-in for an official checkpoint once, and returns its path."""
    folder = tmp_path_factory.mktemp("official")

    def write(name: str) -> Path:
        path = folder / f"{name}.pth"
        if not path.exists():
            checkpoint = checkpoints.state_dict(name)
            if name == "cnn14":
                sampler = {"indexes_per_class": [np.arange(3)], "queue": [2, 0, 1], "pointers_of_classes": [0]}
                checkpoint = {"iteration": 0, "model": checkpoint, "sampler": sampler}
            torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
        return path

    return write


@pytest.fixture
def recordings(tmp_path) -> Path:
    """A folder with six good recordings in four formats and at several rates, one of them stereo, and metadata."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    rows = ["file_name,label"]
    for index, (suffix, rate) in enumerate(
        [("wav", 16000), ("flac", 44100), ("ogg", 22050), ("mp3", 48000), ("wav", 8000), ("wav", 32000)]
    ):
        waveform = 0.5 * tone(0.5 + 0.3 * index, rate, seed=index)
        if index == 5:
            waveform = np.stack([waveform, -0.5 * waveform], axis=1)
        soundfile.write(folder / f"clip{index}.{suffix}", waveform, rate)
        rows.append(f"clip{index}.{suffix},{'even' if index % 2 == 0 else 'odd'}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """A small task: tones of three pitches in noise, 36 clips of 1.5 s, of three classes and three folds."""
    folder = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(0)
    rows = ["file_name,label,fold"]
    for index in range(36):
        pitch = (300, 1000, 3000)[index % 3]
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(24000) / 16000) + 0.02 * generator.normal(size=24000)
        soundfile.write(folder / f"{index}.wav", wave, 16000)
        rows.append(f"{index}.wav,{pitch} Hz,{index // 3 % 3}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def real_folder(name: str) -> Path:
    """A folder of real recordings; the test is skipped where it is absent."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not here ({folder})")
    return folder
