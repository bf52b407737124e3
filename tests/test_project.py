"""What the project says about itself, in its files' own words, is true of the code."""

import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import torch
import yaml
from importlinter.api import read_configuration

import hf_gar

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hf_gar"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

ONE_WAY = "Imports point one way"
HUB_FILES = "Hub files import nothing else of hf_gar"


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """Check the import contracts of the sources in a folder."""
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-logo", "--no-cache"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def sources(tmp_path):
    """A copy of the sources that a test may spoil."""
    shutil.copytree(PACKAGE, tmp_path / "hf_gar", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_version_is_one():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == hf_gar.__version__
    assert f'\nversion = "{hf_gar.__version__}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_newest_release_of_the_changelog_is_the_version():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings
    released = headings[1:] if headings[0] == "[Unreleased]" else headings
    for heading in released:
        match = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})", heading)
        assert match, heading
        date.fromisoformat(match[2])
    assert not released or released[0].startswith(f"[{hf_gar.__version__}]")


def test_the_imports_keep_their_contracts():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert f"{ONE_WAY} KEPT" in done.stdout
    assert f"{HUB_FILES} KEPT" in done.stdout


@pytest.mark.parametrize(
    ("file", "code", "broken"),
    [
        ("models/fusion.py", "def late():\n    from hf_gar.errors import HfGarError\n", [HUB_FILES]),
        ("models/fusion.py", "def late():\n    from hf_gar import load_audio\n", [ONE_WAY, HUB_FILES]),
        ("hub/load.py", "if TYPE_CHECKING:\n    from hf_gar.embedding.jobs.job import Job\n", [ONE_WAY]),
        ("files.py", "import hf_gar.checkpoints.reading\n", [ONE_WAY]),
        ("unplaced.py", "", [ONE_WAY]),
    ],
    ids=["lazy", "by the front door", "for types", "foundation", "a module without a place"],
)
def test_an_import_against_the_rules_breaks_its_contract(sources, file, code, broken):
    with (sources / "hf_gar" / file).open("a", encoding="utf-8") as opened:
        opened.write(f"\n{code}")
    done = lint_imports(sources)
    assert done.returncode == 1
    assert re.findall(r"^(.*) BROKEN$", done.stdout, re.MULTILINE) == broken


def test_the_contributing_guide_names_every_folder():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(re.findall(r"^\| `hf_gar/(\w+)/`", CONTRIBUTING, re.MULTILINE)) == folders


def test_the_contributing_guide_draws_the_contract():
    (contract,) = [
        contract
        for contract in read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
        if contract["name"] == ONE_WAY
    ]
    drawing = re.search(r"```text\n(.*?)```", CONTRIBUTING, re.DOTALL)
    assert drawing
    drawn = re.findall(r"\[(\w+)\]", drawing[1])
    assert drawn == re.findall(r"\w+", " ".join(contract["layers"]))


@pytest.mark.gpu
def test_what_needs_a_gpu_runs_only_where_there_is_one():
    assert torch.cuda.is_available()
