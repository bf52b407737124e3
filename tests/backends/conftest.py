"""Repositories with networks for other runtimes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_gar.embedding.optimization import optimize_repository

RUNTIMES = {"onnx": ("onnxruntime", "onnxscript"), "openvino": ("openvino", "nncf", "onnxscript")}


@pytest.fixture(params=sorted(RUNTIMES), scope="session")
def backend(request) -> str:
    for library in RUNTIMES[request.param]:
        pytest.importorskip(library)
    return request.param


@pytest.fixture(scope="session")
def optimized(tmp_path_factory) -> Callable[[Path, str, str], Path]:
    """A function that copies a repository and puts a network into it, once for each; it is not to be written into."""
    made: dict[tuple[Path, str, str], Path] = {}

    def copy(repository: Path, backend: str, dtype: str) -> Path:
        key = (repository, backend, dtype)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("optimized") / repository.name
            shutil.copytree(repository, made[key])
            optimize_repository(made[key], backend, dtype)
        return made[key]

    return copy
