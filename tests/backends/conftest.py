"""Repositories with networks for other runtimes, each exported once."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from hf_gar.backends.choice import choose_torch_dtype, supports_int8
from hf_gar.backends.optimization import EXPORTERS
from hf_gar.cli import main
from hf_gar.tiny import FOLDER
from tests.conftest import save_publishable, save_tiny_classifier

INSTALLED = [backend for backend, libraries in EXPORTERS.items() if all(map(find_spec, libraries))]


@pytest.fixture(params=sorted(EXPORTERS), scope="session")
def backend(request) -> str:
    if request.param not in INSTALLED:
        pytest.skip(f'{request.param} is not installed: pip install "hf_gar[{request.param}]"')
    return request.param


def require_dtype(backend: str, dtype: str) -> None:
    """Skip the test of a network that this processor does not run, or that there is not."""
    if dtype == "int8" and not supports_int8():
        pytest.skip("this processor has no instructions for int8")
    if dtype == "bfloat16" and (backend == "onnx" or choose_torch_dtype("cpu") != "bfloat16"):
        pytest.skip(f"{backend} has no bfloat16 here")


def optimize(folder: Path, *dtypes: str) -> Path:
    """Put networks for all runtimes that are here into a repository, as a user does."""
    for library in EXPORTERS["onnx"]:
        pytest.importorskip(library)
    arguments = ["optimize", folder, "--backend", *INSTALLED, "--dtype", *dtypes, "--quiet"]
    assert main(list(map(str, arguments))) == 0
    return folder


@pytest.fixture(scope="session")
def optimized_box(tmp_path_factory) -> Path:
    """A copy of the network in the box, with networks; it is not to be written into."""
    folder = tmp_path_factory.mktemp("optimized") / "box"
    shutil.copytree(FOLDER, folder)
    return optimize(folder, "float32", *(["int8"] if supports_int8() else []))


@pytest.fixture(scope="session")
def optimized_ast(tmp_path_factory) -> Path:
    """A small AST with a classifier on its fused layers, and networks; it is not to be written into."""
    folder = tmp_path_factory.mktemp("optimized") / "ast"
    return optimize(save_publishable("ast-fusion", folder, save_tiny_classifier), "float32")


@pytest.fixture(scope="session")
def optimized_vggish(tmp_path_factory) -> Path:
    """A small VGGish, and networks; it is not to be written into."""
    return optimize(save_tiny_classifier("vggish-fusion", tmp_path_factory.mktemp("optimized") / "vggish"), "float32")


@pytest.fixture(params=["box", "ast", pytest.param("vggish", marks=pytest.mark.slow)])
def optimized(request) -> Path:
    return request.getfixturevalue(f"optimized_{request.param}")
