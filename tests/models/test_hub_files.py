"""What makes the hub files loadable from a model repository."""

import ast
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files, get_relative_imports

import hf_gar.models

FOLDER = Path(hf_gar.models.__file__).parent
HUB_FILES = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")
# What transformers loads by name: the classes in auto_map and the pipeline.
SHARED = {
    "configuration_fusion",
    "feature_extraction_fusion",
    "feature_extraction_log_mel",
    "modeling_classification",
    "modeling_fusion",
    "pipeline_recordings",
}
ENTRIES = [
    path
    for path in HUB_FILES
    if path.stem.startswith(("configuration_", "feature_extraction_", "modeling_", "pipeline_"))
    and path.stem not in SHARED
]
INSTALLED_EVERYWHERE = {"torch", "numpy", "transformers"}


def top_level_imports(tree: ast.Module):
    """The imports of a file, but for those in `try:` blocks, which may fail."""
    tried = {node for block in ast.walk(tree) if isinstance(block, ast.Try) for node in ast.walk(block)}
    return [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) and node not in tried]


@pytest.mark.parametrize("path", HUB_FILES, ids=lambda path: path.name)
def test_a_hub_file_imports_what_every_user_has_and_its_siblings(path):
    for node in top_level_imports(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"{path.name}: from {'.' * node.level}{node.module}"
            assert (FOLDER / f"{node.module}.py").exists()
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        assert {name.split(".")[0] for name in names} <= INSTALLED_EVERYWHERE | sys.stdlib_module_names, path.name


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.name)
def test_an_entry_names_all_the_files_that_it_needs(path):
    """Transformers 4 does not follow the imports of imports in a local folder."""
    needed = {Path(file).stem for file in get_relative_import_files(path)} - {path.stem}
    assert needed <= set(get_relative_imports(path))
