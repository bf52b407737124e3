"""Repositories with networks for other runtimes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hf_gar.backends.optimization import Spectrograms, optimize_network
from hf_gar.hub.load import find_repository
from tests.conftest import tone

RUNTIMES = {"onnx": ("onnxruntime", "onnxscript"), "openvino": ("openvino", "nncf", "onnxscript")}


@pytest.fixture(params=sorted(RUNTIMES), scope="session")
def backend(request) -> str:
    for library in RUNTIMES[request.param]:
        pytest.importorskip(library)
    return request.param


def optimize(folder: Path, backend: str, dtype: str, **options) -> None:
    """Put a network into a repository, calibrated on tones of several lengths."""
    repository = find_repository(folder)
    extractor = repository.load_feature_extractor()
    extractor.match(repository.load_config())
    clips = [tone(seconds, extractor.sampling_rate, seed=index) for index, seconds in enumerate((1.0, 1.7, 2.4, 3.1))]
    spectrograms = extractor.spectrograms([np.float32(0.5) * clip for clip in clips])
    optimize_network(repository, backend, dtype, Spectrograms(spectrograms[:3], spectrograms[3:], "tones"), **options)


@pytest.fixture(scope="session")
def optimized(tmp_path_factory) -> Callable[[Path, str, str], Path]:
    """A function that copies a repository and puts a network into it, once for each."""
    made: dict[tuple[Path, str, str], Path] = {}

    def copy(repository: Path, backend: str, dtype: str) -> Path:
        key = (repository, backend, dtype)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("optimized") / repository.name
            shutil.copytree(repository, made[key])
            optimize(made[key], backend, dtype, allow_inaccurate=True)
        return made[key]

    return copy
