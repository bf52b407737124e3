"""Check that a folder is a model repository which works for those who load it, before it is published."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_gar.checkpoints.reading import read_json
from hf_gar.errors import HfGarError
from hf_gar.hub import remote_code_outputs
from hf_gar.hub.card import CARD_FILE, read_origin
from hf_gar.hub.load import CONFIG_FILE, FEATURE_EXTRACTOR_FILE, Repository, find_repository
from hf_gar.models.module_audio_embedding import MODULES, MODULES_FILE

# Files that run code when they are loaded: weights are safetensors.
PICKLES = {".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}
# Between the repository's code and the installed one, relative to the largest magnitude.
TOLERANCE = 1e-5


def check_repository(folder: str | Path, trust_remote_code: bool = False) -> Repository:
    """Check a model repository: its files, its weights, and that its own code gives what the installed code gives.

    The repository's code is run in a separate process, and only where it is the installed code to the byte.

    Args:
        folder: The repository.
        trust_remote_code: Run code that differs from the installed one, too.

    Raises:
        HfGarError: Something is missing, was altered or does not work; the message says what.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HfGarError(f"{folder} is not a folder. Make a model repository with `hf-gar export`.")
    repository = find_repository(folder)
    pickles = [path.name for path in folder.rglob("*") if path.suffix in PICKLES and not _is_of_openvino(path)]
    if pickles:
        raise HfGarError(f"{folder} holds {', '.join(pickles)}, which can run code where they are loaded. Remove them.")
    origin = read_origin(folder)
    if origin is None:
        raise HfGarError(f"{folder} has no {CARD_FILE} that hf_gar wrote. Make the repository with `hf-gar export`.")
    if origin.weights_sha256 != repository.weights_sha256:
        raise HfGarError(
            f"The weights of {folder} were altered: their sha256 is {repository.weights_sha256}, and {CARD_FILE} says "
            f"{origin.weights_sha256}. Export the repository again, or, if you trained them further, say so in "
            f"{CARD_FILE} and give their digest there (weights_sha256)."
        )
    expected = _outputs(repository)
    changed = changed_code(folder, repository.spec.hub_files)
    if changed and not trust_remote_code:
        raise HfGarError(
            f"The code of {folder} differs from that of the installed hf_gar: {', '.join(changed)}. Export the "
            "repository again with this version, or, if you trust that code, allow it (`trust_remote_code`)."
        )
    found = _outputs_by_remote_code(folder)
    for name, array in expected.items():
        others = found.get(name, np.empty(0))
        if others.shape[1:] != array.shape or not np.allclose(others, array, atol=TOLERANCE * np.abs(array).max()):
            raise HfGarError(
                f"The code of {folder} gives another {name} than the installed hf_gar. Export the repository again."
            )
    return repository


def _is_of_openvino(path: Path) -> bool:
    """Whether a file holds the weights of a network of OpenVINO, which are plain numbers, whatever its name says."""
    return path.parent.name == "openvino" and path.suffix == ".bin" and path.with_suffix(".xml").is_file()


def changed_code(folder: Path, hub_files: Mapping[str, Path]) -> list[str]:
    """What a repository would run that is not installed: its Python files, and code that its configuration names."""
    installed = {name: path.read_bytes() for name, path in hub_files.items()}
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.py")}
    changed = [name for name, content in files.items() if installed.get(name) != content]
    for name in (CONFIG_FILE, FEATURE_EXTRACTOR_FILE):
        references = _code_references(read_json(folder / name))
        # "module.Class" of a file here; not of a folder, nor of another repository ("org/name--module.Class").
        changed += [
            f"{reference} ({name})"
            for reference in references
            if not re.fullmatch(r"\w+\.\w+", str(reference)) or f"{str(reference).split('.')[0]}.py" not in files
        ]
    modules = folder / MODULES_FILE  # whose classes sentence-transformers runs
    if modules.exists() and modules.read_text(encoding="utf-8") != MODULES:
        changed.append(MODULES_FILE)
    return sorted(changed)


def _code_references(config: dict[str, Any]) -> list[Any]:
    """What a configuration names as code to load."""
    auto_map, pipelines = config.get("auto_map") or {}, config.get("custom_pipelines") or {}
    if not isinstance(auto_map, dict) or not isinstance(pipelines, dict):
        return [auto_map, pipelines]
    implementations = [
        pipeline.get("impl") if isinstance(pipeline, dict) else pipeline for pipeline in pipelines.values()
    ]
    return [*auto_map.values(), *implementations]


def _outputs(repository: Repository) -> dict[str, np.ndarray]:
    """The test sound's embedding (D,) by the installed code, and its logits (label,) where there is a classifier."""
    extractor = repository.load_feature_extractor()
    rate = extractor.sampling_rate
    sound = remote_code_outputs.check_sound(rate, extractor.max_samples)
    inputs = extractor(sound, sampling_rate=rate, return_tensors="pt")
    outputs = {}
    with torch.inference_mode():
        outputs["embedding"] = repository.load_model()(**inputs).pooler_output[0].numpy()
        if repository.has_classifier:
            outputs["logits"] = repository.load_classifier()(**inputs).logits[0].numpy()
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise HfGarError(f"The {name} of {repository.name} has values that are not finite. Export it again.")
    return outputs


def _outputs_by_remote_code(folder: Path) -> dict[str, np.ndarray]:
    """The same by the repository's own model and pipeline, in a new process, (2, D) and (2, label)."""
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "outputs.npz"
        done = subprocess.run(
            [sys.executable, remote_code_outputs.__file__, str(folder.resolve()), str(output)],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(Path(temporary) / "modules")},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise HfGarError(f"The code of {folder} does not load or run:\n{done.stderr[-2000:]}")
        return dict(np.load(output))
